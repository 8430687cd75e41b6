"""The exception tree: every error that Junebug raises on purpose, on one page.

An error knows its HTTP status and description (COMPAT §1), so the API turns any of them into the envelope
without a table of its own. A message says what went wrong and what to do about it; it never holds a secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class JunebugError(Exception):
    """Root of the tree. `status` is the HTTP status the API answers with, `description` that of the envelope."""

    status = 500
    description = "generic error"
    headers: Sequence[tuple[str, str]] = ()
    """Of the answer, besides: name and value."""

    def __init_subclass__(cls, status: int = 0, description: str = "") -> None:
        """Those of the class that it is derived from, where it has none of its own."""
        cls.status, cls.description = status or cls.status, description or cls.description

    def errors(self) -> list[dict[str, Any]]:
        """The envelope's `result.errors`: dicts with `type`, `message` and what else describes the problem."""
        return [{"type": type(self).__name__, "message": str(self)}]


def named(name: str, message: str) -> JunebugError:
    """An error that another process raised, by the name of its class; JunebugError itself where that needs more than a text."""
    kind: Any = globals().get(name)
    is_plain = isinstance(kind, type) and issubclass(kind, JunebugError) and kind.__init__ is Exception.__init__
    return JunebugError(message) if not is_plain else kind(message)


class PluginError(JunebugError):
    """What a plugin cannot do, and why: the log and `/health` show its text, so it holds no secret. Anything else that a
    plugin raises is shown by its type only.
    """


# --- what a caller of the API did ------------------------------------------------------------------------------------


class NotAuthenticated(JunebugError, status=401, description="not authenticated"):
    """What must be known is who asks: with an API token (docs/access.md)."""

    headers: Sequence[tuple[str, str]] = (
        ("WWW-Authenticate", 'Bearer realm="junebug"'),
        ("WWW-Authenticate", 'Basic realm="junebug", charset="UTF-8"'),
    )
    """A line each: Chromium takes a line for one challenge, and asks its user for Basic's alone."""


class NotAllowed(JunebugError, status=403, description="not allowed"): ...
class HostNotAllowed(JunebugError, status=403, description="host not allowed"): ...
class OriginNotAllowed(JunebugError, status=403, description="origin not allowed"): ...
class TooManyAttempts(JunebugError, status=429, description="too many attempts"): ...
class ApiUsageError(JunebugError, status=400, description="api usage error"): ...
class JsonDecodeError(JunebugError, status=400, description="json decode error"): ...
class InvalidChannelType(JunebugError, status=400, description="invalid channel type"): ...
class InvalidRouterType(JunebugError, status=400, description="invalid router type"): ...
class MessageNotFound(JunebugError, status=400, description="message not found"): ...
class MessageTooLong(JunebugError, status=400, description="message too long"): ...
class NoChannel(JunebugError, status=400, description="no channel"): ...
class ChannelNotFound(JunebugError, status=404, description="channel not found"): ...
class RouterNotFound(JunebugError, status=404, description="router not found"): ...
class DestinationNotFound(JunebugError, status=404, description="destination not found"): ...
class TokenNotFound(JunebugError, status=404, description="token not found"): ...
class DeadLetterNotFound(JunebugError, status=404, description="dead letter not found"): ...
class PayloadTooLarge(JunebugError, status=413, description="payload too large"): ...


class NoSuchMessage(MessageNotFound, status=404):
    """Nobody knows a message that was asked for by its URL. (What a reply_to names is part of a body: 400.)"""

    def errors(self) -> list[dict[str, Any]]:
        return [{"type": MessageNotFound.__name__, "message": str(self)}]


class MessageNotQueued(JunebugError, status=404, description="message not queued"):
    """There is no such message, or it is being sent, or was sent already."""


class ChannelChanged(JunebugError, status=409, description="channel changed"):
    """Somebody else changed the channel between our reading and our writing it."""


class RouterChanged(JunebugError, status=409, description="router changed"):
    """The same of a router, or of one of its destinations."""


class TooManyCancelled(JunebugError, status=409, description="too many cancelled"):
    """So many single messages are cancelled and have not come to be sent yet that no more are noted."""


class RequestInProgress(JunebugError, status=409, description="request in progress"):
    """Another request with the same Idempotency-Key is still under way. Trying again is right."""


class IdempotencyKeyReused(JunebugError, status=422, description="idempotency key reused"):
    """The same Idempotency-Key came with another body."""


class InvalidBody(ApiUsageError):
    """A body that its JSON Schema refuses: one entry for each problem."""

    def __init__(self, problems: Sequence[tuple[str, list[str | int]]]) -> None:
        """`problems`: pairs of (message that names the field, path inside the schema)."""
        super().__init__("; ".join(message for message, _ in problems))
        self.problems = tuple(problems)

    def errors(self) -> list[dict[str, Any]]:
        return [{"type": "invalid_body", "message": message, "schema_path": path} for message, path in self.problems]


class InvalidConfig(JunebugError):
    """A `config` that its type's schema refuses; each entry names the field (spec 1.10.6)."""

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        """`problems`: pairs of (field, what is wrong with it)."""
        super().__init__("; ".join(f"{field}: {message}" for field, message in problems))
        self.problems = tuple(problems)

    def errors(self) -> list[dict[str, Any]]:
        name = type(self).__name__
        return [{"type": name, "message": f"{field}: {message}", "field": field} for field, message in self.problems]


class InvalidChannelConfig(InvalidConfig, status=400, description="invalid channel config"): ...
class InvalidRouterConfig(InvalidConfig, status=400, description="invalid router config"): ...
class InvalidRouterDestinationConfig(InvalidConfig, status=400, description="invalid router destination config"): ...


# --- what stands behind us and may be away ---------------------------------------------------------------------------


class Unavailable(JunebugError, status=503, description="service unavailable"):
    """Something that Junebug needs did not answer in time. Trying again later is right."""


class BrokerUnavailable(Unavailable):
    """RabbitMQ is away, or did not confirm in time."""


class StoreUnavailable(Unavailable):
    """Redis is away, or did not answer in time."""


class Overloaded(Unavailable):
    """More came at the same time than this process can bear. Trying again soon is right."""


class NotRunning(JunebugError, status=503, description="channel not running"):
    """The channel has no process at the moment."""


class QueueBusy(JunebugError, status=409, description="queue busy"):
    """Somebody else is going through the same queue. Trying again is right."""


class Unroutable(JunebugError, description="unroutable message"):
    """RabbitMQ returned a mandatory message: no queue is bound for its routing key."""

    returned: Sequence[int] = ()
    """Of what was published together, the indices of those that came back."""


class MalformedMessage(JunebugError, description="malformed message"):
    """Bytes on a queue that are no Vumi message: dead-lettered, never retried."""


# --- what a transport says of a message it could not send (DESIGN §3) ------------------------------------------------


class Rejected(JunebugError):
    """The provider or the transport refuses the message for good: the event is `rejected` with this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Expired(JunebugError):
    """Its `expires_at` passed before it could leave: final, the event is `delivery_failed` with reason `expired`."""


class NotSent(JunebugError):
    """Nothing left the house (no link, throttled): the message is kept and tried again in `retry_after` seconds."""

    def __init__(self, reason: str, retry_after: float = 1.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class UnknownOutcome(JunebugError):
    """The link died after the message left: nobody knows. Sent again, unless the channel says `on_unknown: fail`."""


# --- starting up ------------------------------------------------------------------------------------------------------


class ConfigError(JunebugError):
    """A setting is wrong. One clear line that names it; the command exits with code 2."""

    exit_code = 2


class HostTaken(JunebugError):
    """Another Junebug that lives has this one's host id."""


class StartupError(JunebugError):
    """The settings are fine, the world is not (port in use, Redis refused ...). One clear line; exit code 1."""

    exit_code = 1


class TransportStartError(JunebugError):
    """A channel's transport cannot start (its port is taken, its config is unusable). The supervisor tries again."""
