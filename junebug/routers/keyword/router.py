"""KeywordRouter: a message goes to the destination whose keyword or alias its first word is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from junebug.model.messages import UserMessage
from junebug.routers.base import Router
from junebug.routers.keyword.words import first_word, words_of


class KeywordRouter(Router):
    """Should two destinations have the same word, the first by its id gets it."""

    keeps_sessions = True

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self._of_word: dict[str, set[str]] = {}

    def learn(self, destination: str, config: dict[str, Any]) -> None:
        words = words_of(config)
        if not words:
            raise ValueError("config.keyword: there is no word")
        for word in words:
            self._of_word.setdefault(word, set()).add(destination)

    def forget(self, destination: str, config: dict[str, Any]) -> None:
        for word in words_of(config):
            self._of_word[word].discard(destination)
            if not self._of_word[word]:
                del self._of_word[word]

    def route(self, message: UserMessage) -> Sequence[str]:
        word = first_word(message.content)
        found = self._of_word.get(word) if word is not None else None
        return self.or_default((min(found),) if found else ())
