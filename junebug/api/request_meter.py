"""How many requests there are, how long they take, and who is refused: counted for `GET /metrics`. Neighbour: middleware.py tells
of each.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from junebug.errors import JunebugError
from junebug.runtime import families
from junebug.runtime.metrics import Metrics, Observer

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
NO_ROUTE = "none"
"""Of a path that nothing is at."""
_PREFIX = "/jb"
_REFUSED = {name: families.AUTH_FAILURES.field(name) for (name,) in families.AUTH_FAILURES.all_values()}


class RequestMeter:
    def __init__(self, metrics: Metrics) -> None:
        self._counts = metrics.counts
        self._known: dict[tuple[Any, str, int], tuple[str, Observer]] = {}
        """(what aiohttp found, method, status) -> what counts it: as many as the API can answer."""

    def answered(self, request: web.Request, response: web.StreamResponse, seconds: float) -> None:
        """A stream lasts as long as whoever reads it wants: that is not timed."""
        what = (request.match_info.route.resource, request.method, response.status)
        field, took = self._known.get(what) or self._learn(*what)
        self._counts[field] += 1
        if isinstance(response, web.Response):
            took(seconds)

    def refused(self, error: JunebugError) -> None:
        """A request was answered so."""
        if field := _REFUSED.get(type(error).__name__):
            self._counts[field] += 1

    def _learn(self, resource: Any, method: str, status: int) -> tuple[str, Observer]:
        route = template(resource.canonical) if resource else NO_ROUTE
        shown = method if method in METHODS else families.OTHER
        field = families.REQUESTS.field(route, shown, str(status))
        counting = field, families.REQUEST_SECONDS.observer(self._counts, route, shown)
        if shown == method:  # others may be any
            self._known[resource, method, status] = counting
        return counting


def template(path: str) -> str:
    """A route's, the same in each form that it is served in."""
    path = path if path == "/" else path.removesuffix("/")
    return path.removeprefix(_PREFIX) if path.startswith(f"{_PREFIX}/") else path
