"""The rows of routers and destinations. Neighbour: operations.py, which has all others."""

from __future__ import annotations

from collections.abc import Iterator

from junebug import errors
from junebug.api.openapi.answers import IDS, NOTHING, list_of, ref
from junebug.api.openapi.rows import (
    DRY_RUN,
    LOG_COUNT,
    MESSAGE_ID,
    SEE_MESSAGE,
    SENT,
    Answer,
    Operation,
    dead_letters,
    life,
    sending,
)

_R = "/routers/{router_id}"
_D = f"{_R}/destinations/{{destination_id}}"
_NO_ROUTER, _NO_DESTINATION = (errors.RouterNotFound,), (errors.RouterNotFound, errors.DestinationNotFound)
_IN_BOTH = (errors.InvalidBody, errors.InvalidRouterType, errors.ApiUsageError, errors.RouterChanged)
_IN_ROUTER = (*_IN_BOTH, errors.InvalidRouterConfig)
_IN_DESTINATION = (*_IN_BOTH, errors.InvalidRouterDestinationConfig)
_NOT_SENT = Answer(200, "message not sent", ref("RoutedDryRun"))


def _on_routers() -> Iterator[Operation]:
    answer = Answer(200, "routers retrieved", IDS)
    yield Operation("list_routers", "routers", "GET", "/routers/", "The ids of all routers", (answer,))
    yield Operation(
        "create_router", "routers", "POST", "/routers/", "Create a router", (Answer(201, "router created", ref("Router")),),
        _IN_ROUTER, body="RouterCreate",
    )  # fmt: skip
    yield Operation(
        "get_router", "routers", "GET", _R, "A router, and how it does", (Answer(200, "router found", ref("Router")),), _NO_ROUTER
    )
    for verb, method, body, details in (
        ("replace", "PUT", "RouterCreate", "The router is what the body says; what is not given is gone."),
        ("update", "PATCH", "RouterUpdate", "What is given changes, the rest stays."),
    ):
        yield Operation(
            f"{verb}_router", "routers", method, _R, f"{verb.capitalize()} a router",
            (Answer(200, "router updated", ref("Router")),), (*_NO_ROUTER, *_IN_ROUTER), body=body, details=details,
        )  # fmt: skip
    yield Operation(
        "delete_router", "routers", "DELETE", _R, "Delete a router, with its destinations",
        (Answer(200, "router deleted", NOTHING),), _NO_ROUTER,
    )  # fmt: skip
    yield Operation(
        "restart_router", "routers", "POST", f"{_R}/restart", "End its process and start it anew",
        (Answer(200, "router restarted", NOTHING),), _NO_ROUTER,
    )  # fmt: skip
    yield _logs("get_router_logs", "routers", _R, _NO_ROUTER)
    yield from sending(
        "send_message_by_router", "routers", _R, "Send a message by the channel that the router chooses", (SENT, _NOT_SENT),
        (*_NO_ROUTER, errors.ChannelNotFound, errors.NoChannel), (DRY_RUN,), "Of a router of type `outbound`.",
    )  # fmt: skip
    yield _status("get_message_status_of_router", "routers", _R, _NO_ROUTER)
    yield life("get_message_timeline_of_router", "routers", _R, _NO_ROUTER)
    yield from dead_letters("router_dead_letters", "router_dead_letter", _R, _NO_ROUTER)


def _on_destinations() -> Iterator[Operation]:
    yield Operation(
        "list_destinations", "destinations", "GET", f"{_R}/destinations/", "The ids of a router's destinations",
        (Answer(200, "destinations retrieved", IDS),), _NO_ROUTER,
    )  # fmt: skip
    yield Operation(
        "create_destination", "destinations", "POST", f"{_R}/destinations/", "Create a destination",
        (Answer(201, "destination created", ref("Destination")),), (*_NO_ROUTER, *_IN_DESTINATION), body="DestinationCreate",
    )  # fmt: skip
    yield Operation(
        "get_destination", "destinations", "GET", _D, "A destination",
        (Answer(200, "destination found", ref("Destination")),), _NO_DESTINATION,
    )  # fmt: skip
    for verb, method, body, details in (
        ("replace", "PUT", "DestinationCreate", "The destination is what the body says; what is not given is gone."),
        ("update", "PATCH", "DestinationUpdate", "What is given changes, the rest stays."),
    ):
        yield Operation(
            f"{verb}_destination", "destinations", method, _D, f"{verb.capitalize()} a destination",
            (Answer(200, "destination updated", ref("Destination")),), (*_NO_DESTINATION, *_IN_DESTINATION), body=body,
            details=details,
        )  # fmt: skip
    yield Operation(
        "delete_destination", "destinations", "DELETE", _D, "Delete a destination",
        (Answer(200, "destination deleted", NOTHING),), (*_NO_DESTINATION, errors.RouterChanged),
    )  # fmt: skip
    yield _logs("get_destination_logs", "destinations", _D, _NO_DESTINATION)
    yield from sending(
        "send_message_by_destination", "destinations", _D, "Send a message as a destination", (SENT, _NOT_SENT),
        (*_NO_DESTINATION, errors.ChannelNotFound, errors.NoChannel), (DRY_RUN,),
    )  # fmt: skip
    yield _status("get_message_status_of_destination", "destinations", _D, _NO_DESTINATION)
    yield life("get_message_timeline_of_destination", "destinations", _D, _NO_DESTINATION)
    yield from dead_letters("destination_dead_letters", "destination_dead_letter", _D, _NO_DESTINATION)


def _logs(id: str, tag: str, path: str, not_found: tuple[type[Exception], ...]) -> Operation:
    answer = Answer(200, "logs retrieved", list_of(ref("LogEntry")))
    return Operation(
        id, tag, "GET", f"{path}/logs", "The newest log entries, newest first", (answer,), (*not_found, errors.ApiUsageError),
        query=(LOG_COUNT, MESSAGE_ID),
    )  # fmt: skip


def _status(id: str, tag: str, path: str, not_found: tuple[type[Exception], ...]) -> Operation:
    answer = Answer(200, "message status", ref("MessageStatus"))
    return Operation(
        id, tag, "GET", f"{path}/messages/{{message_id}}", "What became of a message", (answer,), not_found, rights=SEE_MESSAGE
    )


ROUTING_OPERATIONS: tuple[Operation, ...] = (*_on_routers(), *_on_destinations())
