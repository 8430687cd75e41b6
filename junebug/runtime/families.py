"""The families of `GET /metrics`: what each is, its labels and their values. docs/metrics.md has a table of them, kept true by
a test; so are the dashboard and the alerts in etc/.

Neighbours: metrics.py counts by the texts that are made here; api/metrics.py turns them into what Prometheus reads.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from junebug import names
from junebug.runtime.metrics import Counts, Observer, observer

Kind = Literal["counter", "gauge", "histogram"]

OTHER = "other"
"""Of a label whose values come from outside: what is not known."""
SEPARATOR = "|"
"""Between the parts of a field: no label's value has it."""
SUM = "sum"


@dataclass(frozen=True, slots=True)
class Family:
    """`name`: as Prometheus has it, without a counter's `_total`. `values`: label -> what it may be, where that is known:
    the series are there from the beginning then, if it is a counter of a channel.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    owned: bool = False
    """Of a channel (label `channel_id`) or a router (`router_id`), besides `labels`."""
    bounds: tuple[float, ...] = ()
    values: Mapping[str, Sequence[str]] | None = None
    by_router: bool = True
    """Whether a router has it, too."""

    def field(self, *values: str) -> str:
        """Of these labels, in their order: by what it is counted, and kept in Redis."""
        assert len(values) == len(self.labels), self.name
        return SEPARATOR.join((self.name.removeprefix(PREFIX), *values))

    def observer(self, counts: Counts, *values: str) -> Observer:
        """Of a histogram."""
        *fields, total = self.fields(*values)
        return observer(counts, self.bounds, fields, total)

    def fields(self, *values: str) -> list[str]:
        """Of a histogram: of each bound, of what is beyond, and of the sum."""
        base = self.field(*values)
        return [f"{base}{SEPARATOR}{each}" for each in (*map(repr, self.bounds), "+Inf", SUM)]

    @property
    def unit(self) -> str:
        return next((unit for unit in ("seconds", "bytes") if self.name.endswith(f"_{unit}")), "")

    def all_values(self) -> list[tuple[str, ...]]:
        """Each combination of labels that is known; nothing where they are not."""
        known = self.values or {}
        if not self.labels:
            return [()]
        return list(itertools.product(*(known.get(label, ()) for label in self.labels)))


PREFIX = "junebug_"

QUICK = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CALLS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LAG = (0.01, 0.05, 0.25, 1.0, 5.0)

TO = ("mo_url", "event_url", "status_url", "amqp_queue")
RESULTS = ("ok", "no_answer", "3xx", "4xx", "5xx", OTHER)
REASONS = ("too_old", "refused", "unreadable", "failed")
PRIORITIES = tuple(map(str, names.PRIORITIES))

# --- a channel's, or a router's -----------------------------------------------------------------------------------------

MESSAGES = Family(
    "junebug_messages", "counter",
    "Messages, by what became of them here. Outbound ones begin as accepted (by the API) and end as submitted (the provider took "
    "it), rejected, expired or cancelled; inbound ones begin as received and end as delivered (done with, its application has it "
    "or it is a dead letter) or dropped (it is for no destination).",
    ("direction", "outcome"), True,
)  # fmt: skip
OUTBOUND = ("accepted", "submitted", "rejected", "expired", "cancelled")
INBOUND = ("received", "delivered", "dropped")
REPORTS = Family(
    "junebug_delivery_reports", "counter", "What providers said of messages that they had taken.", ("status",), True,
    values={"status": ("delivered", "failed", "pending")}, by_router=False,
)  # fmt: skip
CALLBACKS = Family(
    "junebug_callback_attempts", "counter",
    "Attempts to give a callback to an application, by what it was for and how it was answered; no_answer: no HTTP status came.",
    ("to", "result"), True,
)  # fmt: skip
CALLBACK_SECONDS = Family(
    "junebug_callback_duration_seconds", "histogram", "How long an attempt took.", ("to",), True, CALLS
)
GIVEN_UP = Family(
    "junebug_given_up", "counter", "What became a dead letter.", ("reason",), True, values={"reason": REASONS}
)
CIRCUITS = Family(
    "junebug_circuits_open", "gauge", "Hosts, or queues, of applications that fail, so that they are only probed.", ("to",), True
)
SENDING = Family(
    "junebug_outbound_sending", "gauge", "Messages that the transport has now.", ("priority",), True, by_router=False
)
HELD = Family("junebug_outbound_held", "gauge", "Messages that the worker has taken from the queue and not begun.",
              ("priority",), True, by_router=False)  # fmt: skip
RESPONSES = Family(
    "junebug_smpp_submit_sm_resp", "counter", "Answers of the SMSC to submit_sm, by command_status.", ("status",), True,
    by_router=False,
)  # fmt: skip
RESPONSE_SECONDS = Family(
    "junebug_smpp_submit_sm_resp_duration_seconds", "histogram", "From a submit_sm to its answer.", (), True, QUICK,
    by_router=False,
)  # fmt: skip
BINDS = Family(
    "junebug_smpp_binds", "gauge", "Binds that an SMPP channel has (bound), and those it lacks (missing).", ("state",), True,
    by_router=False,
)  # fmt: skip
THROTTLED = Family(
    "junebug_smpp_throttled", "gauge", "Whether the SMSC says at the moment that messages come too fast.", (), True,
    by_router=False,
)  # fmt: skip
THROTTLINGS = Family(
    "junebug_smpp_throttled_responses", "counter", "Answers of the SMSC that messages come too fast.", (), True, by_router=False
)
LOOP_LAG = Family(
    "junebug_event_loop_lag_seconds", "histogram",
    "How late a process's event loop was at its clock, which goes once in one to three seconds.", ("process",), True, LAG,
)  # fmt: skip
LOST_LINES = Family("junebug_log_lines_lost", "counter", "Log lines that could not be written.", ("process",), True)
RESTARTS = Family(
    "junebug_process_restarts", "counter", "Processes that ended unasked, and were started again.", ("process",), True,
    values={"process": ("worker",)},
)  # fmt: skip
QUEUE_LENGTH = Family(
    "junebug_outbound_queue_length", "gauge", "Messages that wait to be sent, those in the worker's hand included.",
    ("priority",), True, by_router=False,
)  # fmt: skip
CALLBACKS_WAITING = Family(
    "junebug_callbacks_waiting", "gauge", "Inbound messages, events and callbacks in the queues that applications get them from.",
    (), True,
)  # fmt: skip
BACKLOG = Family(
    "junebug_callbacks_delayed", "gauge", "Callbacks that wait to be tried again, or for a host that fails.", (), True
)
HELD_CALLBACKS = Family(
    "junebug_callbacks_held", "gauge", "Of these, what a process has taken from a quorum queue to wait.", ("where",), True,
    values={"where": ("waiting", "delayed")},
)  # fmt: skip
DEAD_LETTERS = Family("junebug_dead_letter_queue_length", "gauge", "Dead letters that are kept.", (), True)
COMPONENTS = Family(
    "junebug_component_status", "gauge", "The last status of each component: 1 ok, 0.5 degraded, 0 down.", ("component",), True
)
PAUSED = Family("junebug_channel_paused", "gauge", "Whether sending is paused.", (), True, by_router=False)
CHANNEL_INFO = Family("junebug_channel_info", "gauge", "Always 1: a channel, or a router, and its type.", ("type",), True)

# --- Junebug's own ------------------------------------------------------------------------------------------------------

REQUESTS = Family(
    "junebug_http_requests", "counter", "Requests to the API, by the template of their path.", ("route", "method", "status")
)
REQUEST_SECONDS = Family(
    "junebug_http_request_duration_seconds", "histogram", "How long they took.", ("route", "method"), bounds=QUICK
)
AUTH_FAILURES = Family(
    "junebug_auth_failures", "counter", "Requests to the API that were refused for who sent them, or from where.", ("reason",),
    values={"reason": ("NotAuthenticated", "NotAllowed", "HostNotAllowed", "OriginNotAllowed", "TooManyAttempts")},
)  # fmt: skip
UP = Family("junebug_up", "gauge", "Whether a server that Junebug needs answers.", ("server",),
            values={"server": ("redis", "rabbitmq")})  # fmt: skip
CHANNELS = Family("junebug_channels", "gauge", "Channels that there are.")
ROUTERS = Family("junebug_routers", "gauge", "Routers that there are.")
BUILD = Family("junebug_build_info", "gauge", "Always 1: which Junebug this is.", ("version", "python"))
CPU = Family(
    "junebug_process_cpu_seconds", "counter", "Processor time of a process since it was started.", ("host", "process")
)
RESIDENT = Family(
    "junebug_process_resident_memory_bytes", "gauge", "Memory of a process, what it shares with others included (RSS).",
    ("host", "process"),
)  # fmt: skip
PROPORTIONAL = Family(
    "junebug_process_proportional_memory_bytes", "gauge",
    "Memory of a process, what it shares divided by how many share it (PSS): these add up.", ("host", "process"),
)  # fmt: skip
STARTED = Family(
    "junebug_process_start_time_seconds", "gauge", "When a process was started, since 1970.", ("host", "process")
)
SCRAPE_SECONDS = Family("junebug_scrape_duration_seconds", "gauge", "How long it took to make this answer.")

FAMILIES = tuple(each for each in list(vars().values()) if isinstance(each, Family))
BY_FIELD = {each.name.removeprefix(PREFIX): each for each in FAMILIES}
INTERNAL = (HELD, HELD_CALLBACKS)
"""Of which only others are made."""
SHOWN = tuple(each for each in FAMILIES if each not in INTERNAL)



def zeros(is_router: bool) -> list[str]:
    """Fields of counters that are shown of each channel (or router) from its beginning: a first increase is one."""
    messages = [("inbound", each) for each in (INBOUND[1:] if is_router else INBOUND)]
    messages += [("outbound", each) for each in (() if is_router else OUTBOUND)]
    known = [each for each in FAMILIES if each.kind == "counter" and each.owned and (each.by_router or not is_router)]
    return [
        *(MESSAGES.field(*each) for each in messages),
        *(family.field(*values) for family in known for values in family.all_values() if family.values),
    ]
