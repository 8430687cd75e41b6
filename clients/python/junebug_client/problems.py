"""An error class for each `code`. Written by generate.py: change that, or Junebug's own description, instead."""

from __future__ import annotations

from junebug_client.errors import ApiError


class ApiUsageError(ApiError):
    """400: api usage error."""


class BrokerUnavailable(ApiError):
    """503: service unavailable."""


class ChannelChanged(ApiError):
    """409: channel changed."""


class ChannelNotFound(ApiError):
    """404: channel not found."""


class DeadLetterNotFound(ApiError):
    """404: dead letter not found."""


class DestinationNotFound(ApiError):
    """404: destination not found."""


class HostNotAllowed(ApiError):
    """403: host not allowed."""


class IdempotencyKeyReused(ApiError):
    """422: idempotency key reused."""


class InvalidBody(ApiError):
    """400: api usage error."""


class InvalidChannelConfig(ApiError):
    """400: invalid channel config."""


class InvalidChannelType(ApiError):
    """400: invalid channel type."""


class InvalidRouterConfig(ApiError):
    """400: invalid router config."""


class InvalidRouterDestinationConfig(ApiError):
    """400: invalid router destination config."""


class InvalidRouterType(ApiError):
    """400: invalid router type."""


class JsonDecodeError(ApiError):
    """400: json decode error."""


class JunebugError(ApiError):
    """500: generic error."""


class MessageNotFound(ApiError):
    """400: message not found."""


class MessageNotQueued(ApiError):
    """404: message not queued."""


class MessageTooLong(ApiError):
    """400: message too long."""


class NoChannel(ApiError):
    """400: no channel."""


class NotAllowed(ApiError):
    """403: not allowed."""


class NotAuthenticated(ApiError):
    """401: not authenticated."""


class NotRunning(ApiError):
    """503: channel not running."""


class OriginNotAllowed(ApiError):
    """403: origin not allowed."""


class Overloaded(ApiError):
    """503: service unavailable."""


class PayloadTooLarge(ApiError):
    """413: payload too large."""


class QueueBusy(ApiError):
    """409: queue busy."""


class RequestInProgress(ApiError):
    """409: request in progress."""


class RouterChanged(ApiError):
    """409: router changed."""


class RouterNotFound(ApiError):
    """404: router not found."""


class StoreUnavailable(ApiError):
    """503: service unavailable."""


class TokenNotFound(ApiError):
    """404: token not found."""


class TooManyAttempts(ApiError):
    """429: too many attempts."""


class TooManyCancelled(ApiError):
    """409: too many cancelled."""


class Unavailable(ApiError):
    """503: service unavailable."""


BY_CODE: dict[str, type[ApiError]] = {
    "ApiUsageError": ApiUsageError,
    "BrokerUnavailable": BrokerUnavailable,
    "ChannelChanged": ChannelChanged,
    "ChannelNotFound": ChannelNotFound,
    "DeadLetterNotFound": DeadLetterNotFound,
    "DestinationNotFound": DestinationNotFound,
    "HostNotAllowed": HostNotAllowed,
    "IdempotencyKeyReused": IdempotencyKeyReused,
    "invalid_body": InvalidBody,
    "InvalidChannelConfig": InvalidChannelConfig,
    "InvalidChannelType": InvalidChannelType,
    "InvalidRouterConfig": InvalidRouterConfig,
    "InvalidRouterDestinationConfig": InvalidRouterDestinationConfig,
    "InvalidRouterType": InvalidRouterType,
    "JsonDecodeError": JsonDecodeError,
    "JunebugError": JunebugError,
    "MessageNotFound": MessageNotFound,
    "MessageNotQueued": MessageNotQueued,
    "MessageTooLong": MessageTooLong,
    "NoChannel": NoChannel,
    "NotAllowed": NotAllowed,
    "NotAuthenticated": NotAuthenticated,
    "NotRunning": NotRunning,
    "OriginNotAllowed": OriginNotAllowed,
    "Overloaded": Overloaded,
    "PayloadTooLarge": PayloadTooLarge,
    "QueueBusy": QueueBusy,
    "RequestInProgress": RequestInProgress,
    "RouterChanged": RouterChanged,
    "RouterNotFound": RouterNotFound,
    "StoreUnavailable": StoreUnavailable,
    "TokenNotFound": TokenNotFound,
    "TooManyAttempts": TooManyAttempts,
    "TooManyCancelled": TooManyCancelled,
    "Unavailable": Unavailable,
}
"""The `type` that the first error of an answer has -> its class."""
