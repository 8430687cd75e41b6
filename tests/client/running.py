"""`junebug` run in this process, as a shell would: what it printed, and how it ended. No secret may be in it, ever."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from click.testing import CliRunner

from junebug.client.api import Api
from junebug.client.main import main

TOKEN = "the-admin-token-of-these-tests-012345"
NO_ADDRESS = "http://127.0.0.1:1"
"""Nobody listens there."""


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def good(self) -> Ran:
        assert self.code == 0, self
        return self

    def failed(self, code: int, *words: str) -> Ran:
        """One line on stderr, which holds these words; nothing else anywhere."""
        assert self.code == code, self
        assert len(self.err.splitlines()) == 1, self.err
        assert self.err.startswith("junebug"), self.err
        for word in words:
            assert word in self.err, (word, self.err)
        assert self.out == ""
        return self


@dataclass(frozen=True)
class Cli:
    """Commands that ask the API at a URL; one at a time, for each has stdout to itself."""

    url: str
    token: str | None = TOKEN
    secrets: tuple[str, ...] = (TOKEN,)

    def send(self, channel: str, content: str = "seen") -> str:
        """The id of a message, without a command: while another runs."""
        with Api(self.url, self.token) as api:
            return str(api.send_message(channel, {"to": "+27", "content": content})["message_id"])

    @contextmanager
    def sending(self, channel: str) -> Iterator[list[str]]:
        """Messages, again and again, while the block runs; their ids."""
        sent, over = [self.send(channel)], threading.Event()

        def send() -> None:
            while not over.wait(0.2):
                sent.append(self.send(channel))

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield sent
        finally:
            over.set()
            thread.join()

    def __call__(self, *words: str, input: str | None = None, environment: Mapping[str, str | None] | None = None) -> Ran:
        around: dict[str, str | None] = {name: None for name in os.environ if name.startswith("JUNEBUG_")}
        around |= {"JUNEBUG_URL": self.url, "JUNEBUG_TOKEN": self.token, "NO_COLOR": None, "FORCE_COLOR": None}
        result = CliRunner().invoke(main, words, input=input, env=around | dict(environment or {}), catch_exceptions=False)
        for secret in self.secrets:
            assert secret not in result.output, words
        return Ran(result.exit_code, result.stdout, result.stderr)
