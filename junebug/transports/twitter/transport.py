"""TwitterTransport: a channel is an account of X. Addresses are @names; client.py asks the API, inbox.py what came, texts.py
makes tweets of a text.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any

from junebug.errors import NotSent, Rejected, Unavailable, UnknownOutcome
from junebug.model.messages import UserMessage
from junebug.runtime.loop import end_task
from junebug.transports.base import Transport, TransportContext
from junebug.transports.kept_link import KeptLink, LinkDown
from junebug.transports.twitter import texts
from junebug.transports.twitter.client import PAUSE, ApiClient, ApiError
from junebug.transports.twitter.inbox import Came, Inbox, Kind

COMPONENT = "twitter"
EVERYBODY = "NO_USER"
"""The `to` of a tweet to nobody, as Vumi has it."""
LONGEST_DIRECT_MESSAGE = 10_000
REMEMBERED = 1000
"""Users' ids, and messages that were sent in part."""
STORE_PAUSE = 1.0
_NAME = re.compile(r"@?([A-Za-z0-9_]{1,50})")
_ID = re.compile(r"[0-9]{1,19}")
_CONVERSATION = re.compile(r"[0-9]{1,20}(-[0-9]{1,20})?")


class TwitterTransport(Transport):
    send_timeout = None

    def __init__(self, context: TransportContext) -> None:
        super().__init__(context)
        self._client = ApiClient(self.config)
        self._link = KeptLink(context, COMPONENT, self.config.get("base_url", "https://api.x.com"), self._connection)
        kinds: list[Kind] = []
        kinds += ["tweet"] if self.config.get("mentions", True) else []
        kinds += ["direct_message"] if self.config.get("direct_messages", True) else []
        self._inboxes = [Inbox(kind, context.store, context.log.warning) for kind in kinds]
        self._me, self._my_name = "", ""
        self._ids: OrderedDict[str, str] = OrderedDict()
        """User name -> id."""
        self._sent: OrderedDict[str, list[str]] = OrderedDict()
        """Message id -> ids of its tweets, of those that were sent in part; the last one may be unknown."""
        self._unknown: OrderedDict[str, None] = OrderedDict()
        """Messages of which something may have arrived."""

    async def start(self) -> None:
        await self._client.open()
        self._link.start()

    async def stop(self) -> None:
        await self._link.stop(asyncio.sleep(0))
        await self._client.close()

    async def ready(self) -> None:
        await self._link.ready()

    # --- out ----------------------------------------------------------------------------------------------------------

    async def send(self, message: UserMessage) -> str | None:
        if not self._link.is_up:
            raise self._link.not_up()
        try:
            if self._kind(message) == "direct_message":
                id = await self._send_direct_message(message)
            else:
                id = await self._send_tweets(message)
        except ApiError as error:
            return await self._failed(message, error)
        self._sent.pop(message.message_id, None)
        self._unknown.pop(message.message_id, None)
        await self._is_fine()
        return id

    def _kind(self, message: UserMessage) -> Kind:
        """What the message says, else what it answers, else the option."""
        data = message.helper_metadata
        for kind, other in (("direct_message", "tweet"), ("tweet", "direct_message")):
            if data.get(kind) is True or data.get(other) is False:
                return "direct_message" if kind == "direct_message" else "tweet"
        answered = _twitter(message)
        if answered.get("direct_message_id"):
            return "direct_message"
        is_direct = not answered and self.config.get("send_as") == "direct_message"
        return "direct_message" if is_direct else "tweet"

    async def _send_direct_message(self, message: UserMessage) -> str | None:
        content = _text(message)
        if not content.strip():
            raise Rejected("content: it is empty")
        if len(content) > LONGEST_DIRECT_MESSAGE:
            raise Rejected(f"content: a direct message has at most {LONGEST_DIRECT_MESSAGE} characters")
        if message.group:
            if not _CONVERSATION.fullmatch(message.group):
                raise Rejected("group: it is no conversation's id")
            to = {"dm_conversation_id": message.group}
        else:
            to = {"participant_id": await self._id_of(message)}
        answer = await self._client.create_direct_message(text=content, user_auth=self._client.user_auth, **to)
        return _created(answer, "dm_event_id")

    async def _send_tweets(self, message: UserMessage) -> str | None:
        content = _text(message).strip()
        if not content:
            raise Rejected("content: it is empty")
        answered = str(_twitter(message).get("status_id") or "")
        address = message.to_addr if message.to_addr != EVERYBODY else None
        name = _NAME.fullmatch(address or "")
        if address and not name:
            raise Rejected("to: it is no user's name")
        if name and not answered:
            content = f"@{name[1]} {content}"
        limit, most = self.config.get("tweet_limit", 280), self.config.get("max_tweets", 10)
        if self.config.get("long_tweets") == "split":
            parts = texts.thread(content, limit, most)
        elif (length := texts.length(content)) > limit:
            raise Rejected(f"content: it has {length} characters as X counts them, of {limit} at most, which is tweet_limit")
        else:
            parts = [content]
        sent = _remember(self._sent, message.message_id, [])
        for number in range(len(sent), len(parts)):
            if number:
                await self.context.permit(message.priority)
            before = sent[-1] if sent else answered
            reply = {"in_reply_to_tweet_id": before} if _ID.fullmatch(before) else {}
            answer = await self._client.create_tweet(text=parts[number], user_auth=self._client.user_auth, **reply)
            sent.append(_created(answer, "id") or "")
        return ",".join(filter(None, sent)) or None

    async def _id_of(self, message: UserMessage) -> str:
        """The recipient's. Raises Rejected, ApiError."""
        address = message.to_addr or ""
        answered = _twitter(message)
        if answered.get("sender") == address and _ID.fullmatch(str(answered.get("sender_id"))):
            return str(answered["sender_id"])
        if _ID.fullmatch(address):
            return address
        name = _NAME.fullmatch(address)
        if not name:
            raise Rejected("to: it is neither a user's name nor an id")
        if name[1] not in self._ids:
            answer = await self._client.get_user(username=name[1], user_auth=self._client.user_auth)
            id = _created(answer, "id")
            if id is None or not _ID.fullmatch(id):
                raise Rejected(f"to: there is no user {name[1]}")
            _remember(self._ids, name[1], id)
        return self._ids[name[1]]

    async def _failed(self, message: UserMessage, error: ApiError) -> str | None:
        """The outcome of a message that the API did not take."""
        has_begun = message.message_id in self._unknown
        if error.is_duplicate and has_begun:  # it had arrived, after all
            return ",".join(filter(None, self._sent.pop(message.message_id, []))) or None
        if error.status == 429:
            await self._is_limited(error)
            raise NotSent(f"X: {error}", max(error.retry_after, 1.0)) from None
        if error.is_of_the_account:
            await self.context.status(COMPONENT, "down", _type_of(error), f"X refuses the account: {error}")
            raise NotSent(f"X: {error}", PAUSE) from None
        if not error.was_sent or error.status == 503:
            raise NotSent(f"X: {error}", 3.0) from None
        if error.status == 0 or error.status >= 500 or error.status < 400:
            _remember(self._unknown, message.message_id, None)
            raise UnknownOutcome(f"X: {error}") from None
        self._sent.pop(message.message_id, None)
        raise Rejected(error.detail) from None

    # --- how it stands ------------------------------------------------------------------------------------------------

    async def _is_fine(self) -> None:
        limited = [until for until in self._client.resume_at.values() if until > time.time()]
        if self._link.is_up and not limited:
            await self.context.status(COMPONENT, "ok", "connected", self._standing)

    async def _is_limited(self, error: ApiError) -> None:
        until = datetime.fromtimestamp(time.time() + error.retry_after, UTC)
        message = f"X wants fewer requests: the next of this kind at {until:%Y-%m-%d %H:%M:%S} UTC"
        await self.context.status(COMPONENT, "degraded", "rate_limited", message)

    @property
    def _standing(self) -> str:
        return f"Connected as @{self._my_name}"

    async def _connection(self) -> None:
        """While the API takes the account's requests. Raises LinkDown."""
        try:
            answer = await self._client.get_me(user_auth=self._client.user_auth)
        except ApiError as error:
            raise _down(error) from None
        self._me, self._my_name = _created(answer, "id") or "", _created(answer, "username") or ""
        if not _ID.fullmatch(self._me) or not _NAME.fullmatch(self._my_name):
            raise LinkDown("connect_failed", "The API does not say whose account this is")
        await self._link.came_up(self._standing)
        tasks = [asyncio.create_task(self._look_again(each)) for each in self._inboxes]
        try:
            await asyncio.wait(tasks or [asyncio.get_running_loop().create_future()], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                await end_task(task)

    # --- in -----------------------------------------------------------------------------------------------------------

    async def _look_again(self, inbox: Inbox) -> None:
        """Every `poll_interval`, or when X lets us. Raises LinkDown."""
        while True:
            pause = self.config.get("poll_interval", 60)
            try:
                await inbox.look(self._client, self._me, self._inbound)
                await self._is_fine()
            except Unavailable as error:
                self.context.log.warning("what came cannot be noted", reason=str(error))
                pause = max(pause, STORE_PAUSE)
            except ApiError as error:
                if error.status != 429:
                    raise _down(error) from None
                await self._is_limited(error)
                pause = max(pause, error.retry_after)
            await asyncio.sleep(pause)

    async def _inbound(self, came: Came) -> None:
        id = {"status_id": str(came.id)} if came.kind == "tweet" else {"direct_message_id": str(came.id)}
        await self.context.inbound(
            to_addr=f"@{self._my_name}", from_addr=came.sender, content=came.text,
            group=came.conversation if came.is_of_a_group else None,
            helper_metadata={came.kind: True, "twitter": id},
            transport_metadata={"twitter": {**id, "sender": came.sender, "sender_id": came.sender_id}},
        )


def _text(message: UserMessage) -> str:
    """Without what no encoding has (half a surrogate pair)."""
    return (message.content or "").encode("utf-8", "replace").decode()


def _twitter(message: UserMessage) -> dict[str, Any]:
    """What is known of the message that this one answers."""
    found = message.transport_metadata.get("twitter")
    return found if isinstance(found, dict) else {}


def _created(answer: dict[str, Any], field: str) -> str | None:
    data = answer.get("data")
    found = data.get(field) if isinstance(data, dict) else None
    return found if isinstance(found, str) else None


def _type_of(error: ApiError) -> str:
    return "auth_failed" if error.status == 401 else "forbidden"


def _down(error: ApiError) -> LinkDown:
    if error.status in (401, 403):
        return LinkDown(_type_of(error), f"X refuses the account: {error}", pause=min(PAUSE, error.retry_after))
    if error.status == 429:
        return LinkDown("rate_limited", f"X: {error}", pause=error.retry_after)
    return LinkDown("connection_lost", f"X: {error}")


def _remember(memory: OrderedDict[str, Any], key: str, value: Any) -> Any:
    """What is there already, or this; the oldest is forgotten."""
    found = memory.setdefault(key, value)
    memory.move_to_end(key)
    if len(memory) > REMEMBERED:
        memory.popitem(last=False)
    return found
