"""X's API at the wire, as far as a channel needs it: an account @bot, people, their tweets and direct messages."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

import orjson
from aiohttp import web
from oauthlib.oauth1 import Client as OAuth1

from tests.polling import eventually

KEYS = {
    "consumer_key": "the-key", "consumer_secret": "the-secret-of-the-application",
    "access_token": "1-the-token", "access_token_secret": "the-secret-of-the-token",
}  # fmt: skip
PEOPLE = {"1": "bot", "2": "alice", "3": "bob"}
PAGE = 100


@dataclass
class Scripted:
    """An answer in the place of the right one. `body`: JSON, or octets as they are. `hang`: none comes."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False
    after: bool = False
    """What was asked for is done all the same."""


def forbidden(detail: str, **more: str) -> Scripted:
    return Scripted(403, {"detail": detail, "type": "about:blank", "title": "Forbidden", "status": 403, **more})


def too_many(seconds: float) -> Scripted:
    headers = {"x-rate-limit-limit": "15", "x-rate-limit-remaining": "0", "x-rate-limit-reset": str(int(time.time() + seconds))}
    return Scripted(429, {"title": "Too Many Requests", "type": "about:blank", "status": 429}, headers)


class FakeX:
    def __init__(self) -> None:
        self.ids = itertools.count(1000)
        self.tweets: list[dict[str, Any]] = []
        self.direct_messages: list[dict[str, Any]] = []
        self.scripted: dict[str, deque[Scripted]] = defaultdict(deque)
        """`METHOD /path` -> the next answers."""
        self.asked: list[str] = []
        self.page_size = PAGE
        self._port = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Again on the same port."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        await self._runner.cleanup()

    def config(self, **more: Any) -> dict[str, Any]:
        return {
            **KEYS, "base_url": f"http://127.0.0.1:{self._port}", "poll_interval": 0.05, "initial_reconnect_delay": 0.1,
            "max_reconnect_delay": 0.5, "request_timeout": 5, **more,
        }  # fmt: skip

    # --- what people do -----------------------------------------------------------------------------------------------

    def tweet(self, author: str, text: str) -> str:
        self.tweets.append({"id": str(next(self.ids)), "author_id": author, "text": text})
        return str(self.tweets[-1]["id"])

    def direct_message(self, sender: str, text: str, conversation: str | None = None) -> str:
        found = {
            "id": str(next(self.ids)), "event_type": "MessageCreate", "sender_id": sender, "text": text,
            "dm_conversation_id": conversation or f"1-{sender}",
        }  # fmt: skip
        self.direct_messages.append(found)
        return found["id"]

    def by_bot(self) -> list[str]:
        return [each["text"] for each in self.tweets if each["author_id"] == "1"]

    async def was_polled(self) -> None:
        """Twice more for each kind: what was there at the first of these has been seen."""
        wanted = ("GET /2/users/1/mentions", "GET /2/dm_events")
        before = {each: self.asked.count(each) for each in wanted}
        await eventually(lambda: all(self.asked.count(each) >= before[each] + 2 for each in wanted), what="polls")

    # --- the API ------------------------------------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        endpoint = f"{request.method} {request.path}"
        self.asked.append(endpoint)
        body = orjson.loads(await request.read() or b"{}")
        scripted = self.scripted[endpoint].popleft() if self.scripted[endpoint] else None
        if scripted and scripted.hang:
            await asyncio.sleep(3600)
        if scripted and scripted.after:
            await self._right(request, body)
        if scripted:
            octets = scripted.body if isinstance(scripted.body, bytes) else orjson.dumps(scripted.body)
            return web.Response(status=scripted.status, body=octets, headers=scripted.headers)
        if not self._is_signed(request):
            return web.json_response({"title": "Unauthorized", "status": 401, "detail": "Unauthorized"}, status=401)
        return await self._right(request, body)

    def _is_signed(self, request: web.Request) -> bool:
        """By the keys of KEYS (OAuth 1.0a), or with the token (OAuth 2.0)."""
        given = request.headers.get("Authorization", "")
        if given == "Bearer the-bearer-token":
            return True
        said = dict(re.findall(r'(\w+)="([^"]*)"', given))
        if "oauth_nonce" not in said:
            return False
        again = OAuth1(*KEYS.values(), nonce=said["oauth_nonce"], timestamp=said["oauth_timestamp"])
        url = f"http://127.0.0.1:{self._port}{request.raw_path}"
        return bool(again.sign(url, request.method)[1]["Authorization"] == given)

    async def _right(self, request: web.Request, body: dict[str, Any]) -> web.Response:
        routes: dict[str, Callable[..., Awaitable[web.Response]]] = {
            r"GET /2/users/me": self._get_me,
            r"GET /2/users/by/username/(\w+)": self._get_user,
            r"GET /2/users/1/mentions": self._get_mentions,
            r"GET /2/dm_events": self._get_dm_events,
            r"POST /2/tweets": self._post_tweet,
            r"POST /2/dm_conversations/with/(\d+)/messages": self._post_dm,
            r"POST /2/dm_conversations/([\d-]+)/messages": self._post_dm,
        }
        for pattern, handler in routes.items():
            if found := re.fullmatch(pattern, f"{request.method} {request.path}"):
                return await handler(request, body, *found.groups())
        return web.json_response({"title": "Not Found", "status": 404, "detail": "no such path"}, status=404)

    async def _get_me(self, request: web.Request, body: Any) -> web.Response:
        return web.json_response({"data": {"id": "1", "username": "bot", "name": "Bot"}})

    async def _get_user(self, request: web.Request, body: Any, name: str) -> web.Response:
        found = [id for id, each in PEOPLE.items() if each == name]
        if not found:
            return web.json_response({"errors": [{"detail": "Could not find user", "title": "Not Found Error"}]})
        return web.json_response({"data": {"id": found[0], "username": name}})

    async def _get_mentions(self, request: web.Request, body: Any) -> web.Response:
        assert "author_id" in request.query["tweet.fields"]
        found = [each for each in self.tweets if "@bot" in each["text"]]
        return self._page(request, found, "author_id")

    async def _get_dm_events(self, request: web.Request, body: Any) -> web.Response:
        assert request.query["event_types"] == "MessageCreate"
        return self._page(request, self.direct_messages, "sender_id")

    def _page(self, request: web.Request, found: list[dict[str, Any]], sender: str) -> web.Response:
        newest = [each for each in reversed(found) if int(each["id"]) > int(request.query.get("since_id", "0"))]
        start = int(request.query.get("pagination_token", "0"))
        size = min(int(request.query["max_results"]), self.page_size)
        page = newest[start : start + size]
        meta = {"result_count": len(page)} | ({"next_token": str(start + size)} if len(newest) > start + size else {})
        users = [{"id": id, "username": PEOPLE[id]} for id in {each[sender] for each in page} if id in PEOPLE]
        return web.json_response({"data": page, "meta": meta, "includes": {"users": users}} if page else {"meta": meta})

    async def _post_tweet(self, request: web.Request, body: Any) -> web.Response:
        if body["text"] in self.by_bot():
            scripted = forbidden("You are not allowed to create a Tweet with duplicate content.")
            return web.json_response(scripted.body, status=403)
        id = self.tweet("1", body["text"])
        self.tweets[-1]["reply"] = body.get("reply", {}).get("in_reply_to_tweet_id")
        return web.json_response({"data": {"id": id, "text": body["text"]}}, status=201)

    async def _post_dm(self, request: web.Request, body: Any, to: str) -> web.Response:
        conversation = f"1-{to}" if "/with/" in request.path else to
        id = self.direct_message("1", body["text"], conversation)
        return web.json_response({"data": {"dm_conversation_id": conversation, "dm_event_id": id}}, status=201)
