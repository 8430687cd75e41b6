"""What a row of the table of operations is, and what several rows share. Neighbours: operations.py, routing_operations.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from junebug import errors
from junebug.api import http
from junebug.api.idempotency import KEY_HEADER, LONGEST_KEY, REPLAYED_HEADER
from junebug.api.life.search import DEFAULT_LIMIT as DEFAULT_SEARCH
from junebug.api.life.search import LARGEST_LIMIT as LARGEST_SEARCH
from junebug.api.life.search import LONGEST_ADDRESS
from junebug.api.life.search import STATUSES as SEARCHED_STATUSES
from junebug.api.openapi.answers import TEXT, Schema, ref
from junebug.model import access
from junebug.model.access import ADMIN, READ
from junebug.model.log_kinds import KINDS


@dataclass(frozen=True, slots=True)
class Parameter:
    """Of the query, or a header."""

    name: str
    schema: Schema
    description: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A good one. `result`: its schema, within the envelope; with a `media`, that of the whole body."""

    status: int
    description: str
    result: Schema
    headers: Mapping[str, str] = field(default_factory=dict)
    """Name -> when it is there."""
    media: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """`id` is what clients call it. `errors`: its own, besides those that any request may get (problems.py)."""

    id: str
    tag: str
    method: str
    path: str
    summary: str
    answers: tuple[Answer, ...]
    errors: tuple[type[Exception], ...] = ()
    rights: tuple[str, ...] | None = None
    """Scopes, one of which is needed; empty: any token; None: as its method says."""
    is_open: bool = False
    """Whether nobody needs a token."""
    body: str = ""
    """The schema of what it takes; empty: no body."""
    is_body_optional: bool = False
    query: tuple[Parameter, ...] = ()
    headers: tuple[Parameter, ...] = ()
    details: str = ""
    old_name_of: str = ""
    """The operation whose other path this is."""

    @property
    def scopes(self) -> tuple[str, ...]:
        if self.rights is None:
            return () if self.is_open else (READ,) if self.method == "GET" else (ADMIN,)
        return self.rights


ADDRESS = {"type": "string", "minLength": 1, "maxLength": LONGEST_ADDRESS}
SEND, SEE_MESSAGE = (access.SEND,), (READ, access.SEND)

LIMIT = Parameter(
    "limit", {"type": "integer", "minimum": 1, "maximum": http.LARGEST_LIMIT, "default": http.DEFAULT_LIMIT}, "How many."
)
OFFSET = Parameter(
    "offset", {"type": "integer", "minimum": 0, "maximum": http.LARGEST_OFFSET, "default": 0}, "How many to leave out before."
)
LOG_COUNT = Parameter("n", {"type": "integer", "minimum": 0}, "How many; at the most, and by default, the setting `max_logs`.")
MESSAGE_ID = Parameter("message_id", TEXT, "Only entries of this message.")
DRY_RUN = Parameter("dry_run", {"type": "boolean", "default": False}, "Nothing is sent, the answer says what would be.")
ID_KEY = Parameter(
    KEY_HEADER, {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": "^[!-~]([ -~]*[!-~])?$"},
    "A repeat of the request with the same key sends nothing, and gets the first one's answer.",
)  # fmt: skip
SEARCH = (
    Parameter("to", ADDRESS, "The whole address; a `+` before it may be missing."),
    Parameter("from", ADDRESS, "Likewise."),
    Parameter("since", TEXT, "Only later ones: a time as `2026-11-23T20:00:00Z`."),
    Parameter("until", TEXT, "Only earlier ones."),
    Parameter(
        "status", {"enum": sorted(SEARCHED_STATUSES)}, "`rejected` and `delivery_failed` include `cancelled` and `expired`."
    ),
    Parameter("direction", {"enum": ["outbound", "inbound"]}, "Which way they went."),
    Parameter("channel_id", TEXT, "Only of this channel."),
    Parameter(
        "limit", {"type": "integer", "minimum": 1, "maximum": LARGEST_SEARCH, "default": DEFAULT_SEARCH}, "How many."
    ),
    Parameter("cursor", TEXT, "That of the answer before: goes on behind it."),
)
REPLAYED = {REPLAYED_HEADER: "`true` where an earlier request with the same key did the work."}
STREAM = (
    Parameter("channel_id", {"type": "array", "items": TEXT}, "Of these channels or routers alone; with commas, too."),
    Parameter("kind", {"type": "array", "items": {"enum": list(KINDS)}}, "These alone; with commas, too."),
    Parameter("last_event_id", TEXT, "As the header, which goes first."),
)
LAST_EVENT = Parameter("Last-Event-ID", TEXT, "The `id` of the last event that is known: those after it come first.")
SENT = Answer(201, "message submitted", ref("SentMessage"), headers=REPLAYED)


def sending(
    id: str, tag: str, path: str, summary: str, answers: tuple[Answer, ...], not_found: tuple[type[Exception], ...],
    query: tuple[Parameter, ...] = (), details: str = "",
) -> Iterator[Operation]:  # fmt: skip
    """By its path, and by the one that Vumi's clients use."""
    problems = (
        *not_found, errors.InvalidBody, errors.ApiUsageError, errors.JsonDecodeError, errors.MessageNotFound,
        errors.MessageTooLong, errors.IdempotencyKeyReused, errors.RequestInProgress,
    )  # fmt: skip
    for name, end in ((id, "messages/"), (f"{id}_json", "messages.json")):
        yield Operation(
            name, tag, "POST", f"{path}/{end}", summary, answers, problems, body="MessageSend", headers=(ID_KEY,), rights=SEND,
            query=query, details=details, old_name_of=id if name != id else "",
        )  # fmt: skip


def life(id: str, tag: str, path: str, not_found: tuple[type[Exception], ...]) -> Operation:
    return Operation(
        id, tag, "GET", f"{path}/messages/{{message_id}}/timeline", "The life of a message: where it is, and why",
        (Answer(200, "message timeline", ref("Timeline")),), (*not_found, errors.NoSuchMessage), rights=SEE_MESSAGE,
    )  # fmt: skip


def dead_letters(many: str, one: str, path: str, not_found: tuple[type[Exception], ...]) -> Iterator[Operation]:
    """`many` and `one`: what they are called in the operations' ids."""
    path = f"{path}/dead-letters"
    unknown = (*not_found, errors.DeadLetterNotFound, errors.QueueBusy)
    yield Operation(
        f"list_{many}", "dead letters", "GET", f"{path}/", "Dead letters, the oldest first",
        (Answer(200, "dead letters listed", ref("DeadLetters")),), (*not_found, errors.ApiUsageError, errors.QueueBusy),
        query=(LIMIT, OFFSET),
    )  # fmt: skip
    yield Operation(
        f"replay_{many}", "dead letters", "POST", f"{path}/replay", "Give them to the application again",
        (Answer(200, "dead letters replayed", ref("Replayed")),), (*unknown, errors.InvalidBody, errors.JsonDecodeError),
        body="Replay", is_body_optional=True,
    )  # fmt: skip
    yield Operation(
        f"delete_{many}", "dead letters", "DELETE", f"{path}/", "Delete all dead letters",
        (Answer(200, "dead letters deleted", ref("Deleted")),), (*not_found, errors.QueueBusy),
    )  # fmt: skip
    yield Operation(
        f"delete_{one}", "dead letters", "DELETE", f"{path}/{{letter_id}}", "Delete a dead letter",
        (Answer(200, "dead letters deleted", ref("Deleted")),), unknown,
    )  # fmt: skip
