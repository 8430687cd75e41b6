"""FromAddressRouter: every destination whose expression is found in a message's to address gets it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from junebug.errors import InvalidRouterDestinationConfig
from junebug.model import expressions
from junebug.model.expressions import BadExpression
from junebug.model.messages import UserMessage
from junebug.routers.base import Router
from junebug.routers.from_address.expression_sets import ExpressionSets

LONGEST_ADDRESS: Final = 256
"""Characters. No expression is searched for in a longer one: that of a phone has 15 digits at the most (E.164)."""


def check_destination(config: dict[str, Any]) -> None:
    """Raises InvalidRouterDestinationConfig for an expression that cannot be used."""
    _pattern(config)


class FromAddressRouter(Router):
    """Destinations come in the order of their ids."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self._expressions = ExpressionSets()

    def learn(self, destination: str, config: dict[str, Any]) -> None:
        self._expressions.put(destination, _pattern(config))

    def forget(self, destination: str, config: dict[str, Any]) -> None:
        self._expressions.remove(destination)

    def route(self, message: UserMessage) -> Sequence[str]:
        address = message.to_addr
        if address is None or len(address) > LONGEST_ADDRESS:
            return self.or_default(())
        return self.or_default(sorted(self._expressions.search(address.encode("utf-8", "replace"))))


def _pattern(config: dict[str, Any]) -> str:
    """As RE2 takes it. Raises InvalidRouterDestinationConfig."""
    given = config.get("regular_expression")
    try:
        if not isinstance(given, str):
            raise BadExpression("there is none")
        pattern: str = expressions.compiled(given).pattern
    except BadExpression as error:
        problem = f"is not a valid regular expression: {error}"
        raise InvalidRouterDestinationConfig([("config.regular_expression", problem)]) from None
    return pattern
