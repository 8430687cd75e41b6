"""A method for each operation. Written by generate.py: change that, or Junebug's own description, instead."""

from __future__ import annotations

import uuid
from typing import Any, Literal

from junebug_client._exchange import Call, segment
from junebug_client.models import (
    BulkResult, Cancelled, Channel, ChannelCreate, ChannelTypes, ChannelUpdate, DeadLetters, Deleted, Destination,
    DestinationCreate, DestinationUpdate, DryRun, FoundMessages, Health, LogEntry, MessageSend, MessageStatus, Messages, NewToken,
    Queue, QueuedMessages, Replay, Replayed, RoutedDryRun, Router, RouterCreate, RouterTypes, RouterUpdate, SentMessage, Timeline,
    Token, TokenCreate,
)  # fmt: skip


class Methods:
    def _call(self, call: Call) -> Any:
        raise NotImplementedError

    def list_channels(self) -> list[str]:
        """The ids of all channels. Needs `channels:read`."""
        return self._call(Call("GET", "/channels/"))

    def create_channel(self, body: ChannelCreate) -> Channel:
        """Create a channel. It can be used at once: what is sent before its process is up waits. An `id` or `status` is
        ignored, so what was read can be sent back. Needs `admin`.
        """
        return self._call(Call("POST", "/channels/", body=body))

    def get_channel(self, channel_id: str) -> Channel:
        """A channel, and how it does. Needs `channels:read`."""
        return self._call(Call("GET", f"/channels/{segment(channel_id)}"))

    def update_channel(self, channel_id: str, body: ChannelUpdate) -> Channel:
        """Change a channel. What is not given stays. A changed `type`, `config` or `public_http` restarts the channel; its
        queues stay. Needs `admin`.
        """
        return self._call(Call("POST", f"/channels/{segment(channel_id)}", body=body))

    def delete_channel(self, channel_id: str) -> None:
        """Delete a channel, with all that waits. Needs `admin`."""
        self._call(Call("DELETE", f"/channels/{segment(channel_id)}"))

    def restart_channel(self, channel_id: str) -> None:
        """End its process and start it anew. Needs `admin`."""
        self._call(Call("POST", f"/channels/{segment(channel_id)}/restart"))

    def pause_channel(self, channel_id: str) -> Queue:
        """Send nothing until it is resumed. Needs `admin`."""
        return self._call(Call("POST", f"/channels/{segment(channel_id)}/pause"))

    def resume_channel(self, channel_id: str) -> Queue:
        """Send again. Needs `admin`."""
        return self._call(Call("POST", f"/channels/{segment(channel_id)}/resume"))

    def get_channel_logs(self, channel_id: str, *, n: int | None = None, message_id: str | None = None) -> list[LogEntry]:
        """The newest log entries, newest first. Needs `channels:read`."""
        return self._call(Call("GET", f"/channels/{segment(channel_id)}/logs", query={"n": n, "message_id": message_id}))

    def send_message(self, channel_id: str, body: MessageSend, *, idempotency_key: str | None = None) -> SentMessage:
        """Send a message. Needs `messages:send`."""
        return self._call(Call(
            "POST", f"/channels/{segment(channel_id)}/messages/", body=body, key=idempotency_key or str(uuid.uuid4()),
        ))  # fmt: skip

    def dry_run_message(self, channel_id: str, body: MessageSend) -> DryRun:
        """Send a message: a dry run, which sends nothing. Needs `messages:send`."""
        return self._call(Call("POST", f"/channels/{segment(channel_id)}/messages/", query={"dry_run": True}, body=body))

    def list_queued_messages(self, channel_id: str, *, limit: int | None = None, offset: int | None = None) -> QueuedMessages:
        """What waits to be sent, in its order. Needs `channels:read`."""
        return self._call(Call("GET", f"/channels/{segment(channel_id)}/messages/", query={"limit": limit, "offset": offset}))

    def cancel_messages(self, channel_id: str) -> Cancelled:
        """Cancel all that waits. Needs `admin`."""
        return self._call(Call("DELETE", f"/channels/{segment(channel_id)}/messages/"))

    def send_messages(self, channel_id: str, body: Messages, *, idempotency_key: str | None = None) -> BulkResult:
        """Send up to 10,000 messages. The body is a JSON array, or NDJSON: a message a line. 201 when at least one was taken;
        `messages` says what became of each, in the order of the request. Refused, it has `messages` beside `errors`. Needs
        `messages:send`.
        """
        return self._call(Call(
            "POST", f"/channels/{segment(channel_id)}/messages/bulk", body=body, key=idempotency_key or str(uuid.uuid4()),
        ))  # fmt: skip

    def get_message_status(self, channel_id: str, message_id: str) -> MessageStatus:
        """What became of a message. Needs `channels:read` or `messages:send`."""
        return self._call(Call("GET", f"/channels/{segment(channel_id)}/messages/{segment(message_id)}"))

    def cancel_message(self, channel_id: str, message_id: str) -> Cancelled:
        """Cancel a message that waits. Needs `admin`."""
        return self._call(Call("DELETE", f"/channels/{segment(channel_id)}/messages/{segment(message_id)}"))

    def get_message_timeline(self, channel_id: str, message_id: str) -> Timeline:
        """The life of a message: where it is, and why. Needs `channels:read` or `messages:send`."""
        return self._call(Call("GET", f"/channels/{segment(channel_id)}/messages/{segment(message_id)}/timeline"))

    def find_messages(
        self, *, to: str | None = None, from_: str | None = None, since: str | None = None, until: str | None = None, status:
        Literal["cancelled", "dead", "delivery_failed", "delivery_pending", "delivery_succeeded", "dropped", "expired",
        "forwarded", "queued", "received", "rejected", "submitted", "waiting"] | None = None, direction: Literal["outbound",
        "inbound"] | None = None, channel_id: str | None = None, limit: int | None = None, cursor: str | None = None,
    ) -> FoundMessages:  # fmt: skip
        """Search for messages, newest first. In the logs of channels, as long as these are kept; what waits to be sent comes
        first. One request reads so much and no more: while `cursor` is not null there may be more, even if nothing was
        found so far. Needs `channels:read` or `messages:send`.
        """
        return self._call(Call(
            "GET", "/messages", query={"to": to, "from": from_, "since": since, "until": until, "status": status, "direction":
            direction, "channel_id": channel_id, "limit": limit, "cursor": cursor},
        ))  # fmt: skip

    def list_dead_letters(self, channel_id: str, *, limit: int | None = None, offset: int | None = None) -> DeadLetters:
        """Dead letters, the oldest first. Needs `channels:read`."""
        return self._call(Call("GET", f"/channels/{segment(channel_id)}/dead-letters/", query={"limit": limit, "offset": offset}))

    def delete_dead_letters(self, channel_id: str) -> Deleted:
        """Delete all dead letters. Needs `admin`."""
        return self._call(Call("DELETE", f"/channels/{segment(channel_id)}/dead-letters/"))

    def replay_dead_letters(self, channel_id: str, body: Replay | None = None) -> Replayed:
        """Give them to the application again. Needs `admin`."""
        return self._call(Call("POST", f"/channels/{segment(channel_id)}/dead-letters/replay", body=body))

    def delete_dead_letter(self, channel_id: str, letter_id: str) -> Deleted:
        """Delete a dead letter. Needs `admin`."""
        return self._call(Call("DELETE", f"/channels/{segment(channel_id)}/dead-letters/{segment(letter_id)}"))

    def list_routers(self) -> list[str]:
        """The ids of all routers. Needs `channels:read`."""
        return self._call(Call("GET", "/routers/"))

    def create_router(self, body: RouterCreate) -> Router:
        """Create a router. Needs `admin`."""
        return self._call(Call("POST", "/routers/", body=body))

    def get_router(self, router_id: str) -> Router:
        """A router, and how it does. Needs `channels:read`."""
        return self._call(Call("GET", f"/routers/{segment(router_id)}"))

    def replace_router(self, router_id: str, body: RouterCreate) -> Router:
        """Replace a router. The router is what the body says; what is not given is gone. Needs `admin`."""
        return self._call(Call("PUT", f"/routers/{segment(router_id)}", body=body))

    def update_router(self, router_id: str, body: RouterUpdate) -> Router:
        """Update a router. What is given changes, the rest stays. Needs `admin`."""
        return self._call(Call("PATCH", f"/routers/{segment(router_id)}", body=body))

    def delete_router(self, router_id: str) -> None:
        """Delete a router, with its destinations. Needs `admin`."""
        self._call(Call("DELETE", f"/routers/{segment(router_id)}"))

    def restart_router(self, router_id: str) -> None:
        """End its process and start it anew. Needs `admin`."""
        self._call(Call("POST", f"/routers/{segment(router_id)}/restart"))

    def get_router_logs(self, router_id: str, *, n: int | None = None, message_id: str | None = None) -> list[LogEntry]:
        """The newest log entries, newest first. Needs `channels:read`."""
        return self._call(Call("GET", f"/routers/{segment(router_id)}/logs", query={"n": n, "message_id": message_id}))

    def send_message_by_router(self, router_id: str, body: MessageSend, *, idempotency_key: str | None = None) -> SentMessage:
        """Send a message by the channel that the router chooses. Of a router of type `outbound`. Needs `messages:send`."""
        return self._call(Call(
            "POST", f"/routers/{segment(router_id)}/messages/", body=body, key=idempotency_key or str(uuid.uuid4()),
        ))  # fmt: skip

    def dry_run_message_by_router(self, router_id: str, body: MessageSend) -> RoutedDryRun:
        """Send a message by the channel that the router chooses: a dry run, which sends nothing. Of a router of type
        `outbound`. Needs `messages:send`.
        """
        return self._call(Call("POST", f"/routers/{segment(router_id)}/messages/", query={"dry_run": True}, body=body))

    def get_message_status_of_router(self, router_id: str, message_id: str) -> MessageStatus:
        """What became of a message. Needs `channels:read` or `messages:send`."""
        return self._call(Call("GET", f"/routers/{segment(router_id)}/messages/{segment(message_id)}"))

    def get_message_timeline_of_router(self, router_id: str, message_id: str) -> Timeline:
        """The life of a message: where it is, and why. Needs `channels:read` or `messages:send`."""
        return self._call(Call("GET", f"/routers/{segment(router_id)}/messages/{segment(message_id)}/timeline"))

    def list_router_dead_letters(self, router_id: str, *, limit: int | None = None, offset: int | None = None) -> DeadLetters:
        """Dead letters, the oldest first. Needs `channels:read`."""
        return self._call(Call("GET", f"/routers/{segment(router_id)}/dead-letters/", query={"limit": limit, "offset": offset}))

    def delete_router_dead_letters(self, router_id: str) -> Deleted:
        """Delete all dead letters. Needs `admin`."""
        return self._call(Call("DELETE", f"/routers/{segment(router_id)}/dead-letters/"))

    def replay_router_dead_letters(self, router_id: str, body: Replay | None = None) -> Replayed:
        """Give them to the application again. Needs `admin`."""
        return self._call(Call("POST", f"/routers/{segment(router_id)}/dead-letters/replay", body=body))

    def delete_router_dead_letter(self, router_id: str, letter_id: str) -> Deleted:
        """Delete a dead letter. Needs `admin`."""
        return self._call(Call("DELETE", f"/routers/{segment(router_id)}/dead-letters/{segment(letter_id)}"))

    def list_destinations(self, router_id: str) -> list[str]:
        """The ids of a router's destinations. Needs `channels:read`."""
        return self._call(Call("GET", f"/routers/{segment(router_id)}/destinations/"))

    def create_destination(self, router_id: str, body: DestinationCreate) -> Destination:
        """Create a destination. Needs `admin`."""
        return self._call(Call("POST", f"/routers/{segment(router_id)}/destinations/", body=body))

    def get_destination(self, router_id: str, destination_id: str) -> Destination:
        """A destination. Needs `channels:read`."""
        return self._call(Call("GET", f"/routers/{segment(router_id)}/destinations/{segment(destination_id)}"))

    def replace_destination(self, router_id: str, destination_id: str, body: DestinationCreate) -> Destination:
        """Replace a destination. The destination is what the body says; what is not given is gone. Needs `admin`."""
        return self._call(Call("PUT", f"/routers/{segment(router_id)}/destinations/{segment(destination_id)}", body=body))

    def update_destination(self, router_id: str, destination_id: str, body: DestinationUpdate) -> Destination:
        """Update a destination. What is given changes, the rest stays. Needs `admin`."""
        return self._call(Call("PATCH", f"/routers/{segment(router_id)}/destinations/{segment(destination_id)}", body=body))

    def delete_destination(self, router_id: str, destination_id: str) -> None:
        """Delete a destination. Needs `admin`."""
        self._call(Call("DELETE", f"/routers/{segment(router_id)}/destinations/{segment(destination_id)}"))

    def get_destination_logs(
        self, router_id: str, destination_id: str, *, n: int | None = None, message_id: str | None = None,
    ) -> list[LogEntry]:  # fmt: skip
        """The newest log entries, newest first. Needs `channels:read`."""
        return self._call(Call(
            "GET", f"/routers/{segment(router_id)}/destinations/{segment(destination_id)}/logs", query={"n": n, "message_id":
            message_id},
        ))  # fmt: skip

    def send_message_by_destination(
        self, router_id: str, destination_id: str, body: MessageSend, *, idempotency_key: str | None = None,
    ) -> SentMessage:  # fmt: skip
        """Send a message as a destination. Needs `messages:send`."""
        return self._call(Call(
            "POST", f"/routers/{segment(router_id)}/destinations/{segment(destination_id)}/messages/", body=body,
            key=idempotency_key or str(uuid.uuid4()),
        ))  # fmt: skip

    def dry_run_message_by_destination(self, router_id: str, destination_id: str, body: MessageSend) -> RoutedDryRun:
        """Send a message as a destination: a dry run, which sends nothing. Needs `messages:send`."""
        return self._call(Call(
            "POST", f"/routers/{segment(router_id)}/destinations/{segment(destination_id)}/messages/", query={"dry_run": True},
            body=body,
        ))  # fmt: skip

    def get_message_status_of_destination(self, router_id: str, destination_id: str, message_id: str) -> MessageStatus:
        """What became of a message. Needs `channels:read` or `messages:send`."""
        return self._call(Call(
            "GET", f"/routers/{segment(router_id)}/destinations/{segment(destination_id)}/messages/{segment(message_id)}",
        ))  # fmt: skip

    def get_message_timeline_of_destination(self, router_id: str, destination_id: str, message_id: str) -> Timeline:
        """The life of a message: where it is, and why. Needs `channels:read` or `messages:send`."""
        return self._call(Call(
            "GET",
            f"/routers/{segment(router_id)}/destinations/{segment(destination_id)}/messages/{segment(message_id)}/timeline",
        ))  # fmt: skip

    def list_destination_dead_letters(
        self, router_id: str, destination_id: str, *, limit: int | None = None, offset: int | None = None,
    ) -> DeadLetters:  # fmt: skip
        """Dead letters, the oldest first. Needs `channels:read`."""
        return self._call(Call(
            "GET", f"/routers/{segment(router_id)}/destinations/{segment(destination_id)}/dead-letters/", query={"limit": limit,
            "offset": offset},
        ))  # fmt: skip

    def delete_destination_dead_letters(self, router_id: str, destination_id: str) -> Deleted:
        """Delete all dead letters. Needs `admin`."""
        return self._call(Call("DELETE", f"/routers/{segment(router_id)}/destinations/{segment(destination_id)}/dead-letters/"))

    def replay_destination_dead_letters(self, router_id: str, destination_id: str, body: Replay | None = None) -> Replayed:
        """Give them to the application again. Needs `admin`."""
        return self._call(Call(
            "POST", f"/routers/{segment(router_id)}/destinations/{segment(destination_id)}/dead-letters/replay", body=body,
        ))  # fmt: skip

    def delete_destination_dead_letter(self, router_id: str, destination_id: str, letter_id: str) -> Deleted:
        """Delete a dead letter. Needs `admin`."""
        return self._call(Call(
            "DELETE", f"/routers/{segment(router_id)}/destinations/{segment(destination_id)}/dead-letters/{segment(letter_id)}",
        ))  # fmt: skip

    def list_tokens(self) -> list[Token]:
        """All API tokens, without their texts. Needs `admin`."""
        return self._call(Call("GET", "/tokens/"))

    def create_token(self, body: TokenCreate) -> NewToken:
        """Make an API token. Its text is in this answer alone. Needs `admin`."""
        return self._call(Call("POST", "/tokens/", body=body))

    def revoke_token(self, token_id: str) -> None:
        """Revoke an API token. Needs `admin`."""
        self._call(Call("DELETE", f"/tokens/{segment(token_id)}"))

    def list_channel_types(self) -> ChannelTypes:
        """Which channel types there are, and their options. Needs `channels:read`."""
        return self._call(Call("GET", "/channel-types/"))

    def list_router_types(self) -> RouterTypes:
        """Which router types there are, and their options. Needs `channels:read`."""
        return self._call(Call("GET", "/router-types/"))

    def get_health(self) -> Health:
        """Whether messages are taken. A stranger is told the status, and no more."""
        return self._call(Call("GET", "/health"))

    def get_liveness(self) -> None:
        """Whether it answers at all."""
        self._call(Call("GET", "/health/live"))

    def get_openapi(self) -> dict[str, Any]:
        """This description."""
        return self._call(Call("GET", "/openapi.json"))
