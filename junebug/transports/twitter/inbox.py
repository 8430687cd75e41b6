"""What came for the account since the last look: tweets that mention it, direct messages. What was seen last is in Redis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from junebug.stores.transport import TransportStore
from junebug.transports.twitter.client import ApiClient

Kind = Literal["tweet", "direct_message"]
SEEN_TTL = 90 * 86_400.0
MOST_PAGES = 10
PAGE = 100
FIRST_PAGE = 5
LONGEST_ID = 20


@dataclass(frozen=True, slots=True)
class Came:
    """A message to the account. `conversation`: of a direct message."""

    kind: Kind
    id: int
    sender_id: str
    username: str | None
    text: str
    conversation: str | None = None

    @property
    def is_of_a_group(self) -> bool:
        """The conversation of two has the ids of both."""
        return self.conversation is not None and "-" not in self.conversation

    @property
    def sender(self) -> str:
        return f"@{self.username}" if self.username else self.sender_id


class Inbox:
    """Of one kind."""

    def __init__(self, kind: Kind, store: TransportStore, warn: Callable[[str], object]) -> None:
        self.kind = kind
        self._store, self._warn = store, warn
        self._key = f"seen:{kind}"

    async def look(self, client: ApiClient, me: str, deliver: Callable[[Came], Awaitable[object]]) -> None:
        """Deliver what is new, the oldest first. The first look ever only notes where the account stands.

        Raises ApiError, StoreUnavailable.
        """
        (stored,) = await self._store.get(self._key)
        seen = _id(stored)
        if seen is None:
            newest = [each.id for each in self._parse(await self._page(client, me, None, None))]
            return await self._saw(max(newest, default=0))
        found = await self._since(client, me, seen)
        for each in sorted(found, key=lambda came: came.id):
            if each.sender_id != me:
                await deliver(each)
            await self._saw(each.id)
        if not found:
            await self._store.expire(self._key, SEEN_TTL)

    async def _saw(self, id: int) -> None:
        await self._store.put(self._key, str(id), SEEN_TTL)

    async def _since(self, client: ApiClient, me: str, seen: int) -> list[Came]:
        found: dict[int, Came] = {}
        token: str | None = None
        for _ in range(MOST_PAGES):
            answer = await self._page(client, me, seen, token)
            page = list(self._parse(answer))
            found.update((each.id, each) for each in page if each.id > seen)
            meta = answer.get("meta")
            token = meta.get("next_token") if isinstance(meta, dict) else None
            if not isinstance(token, str) or not token or any(each.id <= seen for each in page):
                break
        else:
            self._warn(f"more than {MOST_PAGES * PAGE} of kind {self.kind} came since the last look: the oldest are left out")
        return list(found.values())

    async def _page(self, client: ApiClient, me: str, seen: int | None, token: str | None) -> dict[str, Any]:
        """X has the newest first. Of direct messages there is no since_id."""
        common: dict[str, Any] = {"max_results": PAGE if seen is not None else FIRST_PAGE, "user_fields": ["username"]}
        common |= {"user_auth": client.user_auth} | ({"pagination_token": token} if token else {})
        answer: dict[str, Any]
        if self.kind == "tweet":
            since = {"since_id": seen} if seen else {}
            answer = await client.get_users_mentions(
                me, tweet_fields=["author_id", "note_tweet"], expansions=["author_id"], **common, **since
            )
        else:
            fields = ["id", "text", "sender_id", "dm_conversation_id", "event_type"]
            answer = await client.get_direct_message_events(
                event_types="MessageCreate", dm_event_fields=fields, expansions=["sender_id"], **common
            )
        return answer

    def _parse(self, answer: dict[str, Any]) -> Iterator[Came]:
        """What is understood of it."""
        includes = answer.get("includes")
        users = includes.get("users") if isinstance(includes, dict) else None
        known = (each for each in users if isinstance(each, dict)) if isinstance(users, list) else ()
        names = {str(each.get("id")): each.get("username") for each in known}
        sender_field = "author_id" if self.kind == "tweet" else "sender_id"
        data = answer.get("data")
        for each in data if isinstance(data, list) else ():
            id = _id(each.get("id")) if isinstance(each, dict) else None
            if id is None:
                continue
            sender, text, note = each.get(sender_field), each.get("text"), each.get("note_tweet")
            text = note.get("text", text) if isinstance(note, dict) else text
            conversation = each.get("dm_conversation_id")
            if isinstance(sender, str) and isinstance(text, str):
                name = names.get(sender)
                yield Came(
                    self.kind, id, sender, name if isinstance(name, str) else None, text,
                    conversation if isinstance(conversation, str) else None,
                )  # fmt: skip


def _id(value: object) -> int | None:
    is_one = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= LONGEST_ID
    return int(str(value)) if is_one else None
