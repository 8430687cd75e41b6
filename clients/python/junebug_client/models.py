"""What goes in and out of Junebug's API. Written by generate.py: change that, or Junebug's own description, instead."""

from junebug_client._answers import (
    BulkItem, BulkResult, Cancelled, Candidate, Channel, ChannelStatus, ChannelTypes, DeadLetter, DeadLetters, Deleted,
    Destination, DestinationStatus, DryRun, Error, Event, FoundMessage, FoundMessages, Health, LogEntry, Message, MessageStatus,
    NewToken, Problem, Queue, QueuedMessage, QueuedMessages, Replayed, RoutedDryRun, Router, RouterStatus, RouterTypes,
    SentMessage, Status, Timeline, TimelineStep, Token,
)  # fmt: skip
from junebug_client._bodies import (
    ChannelCreate, ChannelUpdate, DestinationCreate, DestinationUpdate, MessageSend, Messages, Replay, RouterCreate, RouterUpdate,
    TokenCreate,
)  # fmt: skip

__all__ = [
    "BulkItem", "BulkResult", "Cancelled", "Candidate", "Channel", "ChannelCreate", "ChannelStatus", "ChannelTypes",
    "ChannelUpdate", "DeadLetter", "DeadLetters", "Deleted", "Destination", "DestinationCreate", "DestinationStatus",
    "DestinationUpdate", "DryRun", "Error", "Event", "FoundMessage", "FoundMessages", "Health", "LogEntry", "Message",
    "MessageSend", "MessageStatus", "Messages", "NewToken", "Problem", "Queue", "QueuedMessage", "QueuedMessages", "Replay",
    "Replayed", "RoutedDryRun", "Router", "RouterCreate", "RouterStatus", "RouterTypes", "RouterUpdate", "SentMessage", "Status",
    "Timeline", "TimelineStep", "Token", "TokenCreate",
]  # fmt: skip
