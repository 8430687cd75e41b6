"""Questions about the logs of a host, as another one asks them: from plain JSON to plain JSON, each bounded in what is read and
in what is answered. Blocking: to be called in a thread.

Neighbours: supervisor/host_logs.py answers them, api/other_hosts.py asks; tail.py, scan.py and message_index.py look.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any

import orjson

from junebug import names
from junebug.errors import MalformedMessage
from junebug.logs.files import logs_of
from junebug.logs.lines import Budget
from junebug.logs.message_index import Hit, Hits, MessageIndex, Wanted
from junebug.logs.scan import Found, lines_about
from junebug.logs.tail import tail

TAIL, ABOUT, SEARCH, LAST_WORDS = "log_tail", "log_about", "log_search", "log_last_words"
LARGEST_ANSWER = 4_000_000
"""Bytes of lines in one answer."""
MOST_ENTRIES = 10_000
Question = Mapping[str, Any]
Entries = list[dict[str, Any]]


class LogAnswers:
    """Of one host's `logging_path`."""

    def __init__(self, logging_path: str) -> None:
        self._path = Path(logging_path)
        self._index = MessageIndex(logging_path)

    def answers(self) -> dict[str, Callable[[Question], dict[str, Any]]]:
        """Question -> who answers it; what is no such question raises MalformedMessage, or what a wrong type raises."""
        return {TAIL: self._tail, ABOUT: self._about, SEARCH: self._search, LAST_WORDS: self._last_words}

    def _tail(self, asked: Question) -> dict[str, Any]:
        count = min(int(asked["count"]), MOST_ENTRIES)
        entries = newest(self._path, _log(asked["log"]), count, asked.get("message_id"), asked.get("destination_id"))
        return {"entries": _bounded(entries)}

    def _about(self, asked: Question) -> dict[str, Any]:
        return {"found": [self._about_one(_log(log), asked) for log in asked["logs"]]}

    def _about_one(self, log: str, asked: Question) -> dict[str, Any]:
        most, since = min(int(asked["most"]), MOST_ENTRIES), float(asked["since"])
        found = asdict(about(self._path, log, str(asked["message_id"]), since, _budget(asked), most))
        kept = _bounded(found["entries"])
        if len(kept) < len(found["entries"]):
            found |= {"entries": kept, "is_whole": False, "trouble": f"of its lines only the newest {len(kept)} are shown"}
        return found

    def _search(self, asked: Question) -> dict[str, Any]:
        wanted = asked["wanted"]
        until = math.inf if wanted["until"] is None else float(wanted["until"])
        wanted = Wanted(**{**wanted, "until": until, "at_end": frozenset(wanted["at_end"])})
        hits = self._index.search([*map(_log, asked["channels"])], wanted, min(int(asked["most"]), MOST_ENTRIES), _budget(asked))
        return {"found": [*map(astuple, hits.found)], "reached": _finite(hits.reached), "is_over": hits.is_over}

    def _last_words(self, asked: Question) -> dict[str, Any]:
        """Of several messages: what these logs say of each from then on, newest first."""
        budget, told = _budget(asked), list[Entries]()
        for logs, message_id, since in asked["messages"]:
            entries = self._index.last_words([*map(_log, logs)], str(message_id), float(since), budget)
            told.append(_bounded(entries))
        return {"entries": told}


# --- of all logs of a channel -------------------------------------------------------------------------------------------


def newest(
    directory: Path, id: str, count: int, message_id: str | None = None, destination_id: str | None = None
) -> Entries:
    """The last entries of a channel (with its shards) or router, newest first; about a message, or a destination."""
    return merged_entries([tail(log, count, message_id, destination_id) for log in logs_of(directory, id)], count)


def about(directory: Path, id: str, message_id: str, since: float, budget: Budget, most: int) -> Found:
    """What a channel (with its shards) or router has logged of a message."""
    parts = [lines_about(log, "message_id", message_id, since, budget, most) for log in logs_of(directory, id)]
    return parts[0] if len(parts) == 1 else merged_found(parts)


# --- of answers ---------------------------------------------------------------------------------------------------------


def wanted_json(wanted: Wanted) -> dict[str, Any]:
    return {**asdict(wanted), "until": _finite(wanted.until), "at_end": sorted(wanted.at_end)}


def hits_of(answer: Mapping[str, Any]) -> Hits:
    reached = math.inf if answer["reached"] is None else float(answer["reached"])
    return Hits([Hit(*each) for each in answer["found"]], reached, bool(answer["is_over"]))


def found_of(answer: Mapping[str, Any]) -> list[Found]:
    return [Found(**each) for each in answer["found"]]


def merged_entries(parts: Sequence[Entries], most: int | None = None) -> Entries:
    """Newest first; each once, though two hosts may read the same directory."""
    if len(parts) == 1:
        return parts[0][:most]
    entries, known = Entries(), set[bytes]()
    for part in parts:
        keys = [orjson.dumps(entry, option=orjson.OPT_SORT_KEYS) for entry in part]
        entries += (entry for entry, key in zip(part, keys, strict=True) if key not in known)
        known.update(keys)
    entries.sort(key=lambda entry: -_timestamp(entry))
    return entries[:most]


def merged_found(parts: Sequence[Found]) -> Found:
    """Of the parts of one log on several hosts, or of several shards."""
    troubles = dict.fromkeys(part.trouble for part in parts if part.trouble)
    times = [part.oldest for part in parts if part.oldest is not None]
    return Found(
        merged_entries([part.entries for part in parts]), min(times, default=None), all(part.is_whole for part in parts),
        "; ".join(troubles), max((part.files for part in parts), default=0), merged_entries([part.statuses for part in parts]),
    )  # fmt: skip


def merged_hits(parts: Sequence[Hits], most: int) -> Hits:
    """What all of them have looked at, newest first."""
    reached = max((part.reached for part in parts if not part.is_over), default=-math.inf)
    found = {(hit.channel, hit.message_id): hit for part in parts for hit in part.found if hit.timestamp >= reached}
    hits = sorted(found.values(), key=lambda hit: -hit.timestamp)
    is_over = math.isinf(reached) and len(hits) <= most
    if len(hits) > most:
        hits, reached = hits[:most], hits[most - 1].timestamp
    elif is_over:
        reached = min((part.reached for part in parts), default=math.inf)
    return Hits(hits, reached, is_over)


def _timestamp(entry: Mapping[str, Any]) -> float:
    timestamp = entry.get("timestamp")
    return float(timestamp) if isinstance(timestamp, int | float) else 0.0


def _log(id: object) -> str:
    if not isinstance(id, str) or not names.is_channel_id(id):
        raise MalformedMessage("log: expected the id of a channel or router")
    return id


def _budget(asked: Question) -> Budget:
    octets, seconds = asked["budget"]
    return Budget(min(int(octets), 256_000_000), min(float(seconds), 10.0))


def _bounded(entries: Entries) -> Entries:
    """The first of them, up to LARGEST_ANSWER."""
    size = 0
    for number, entry in enumerate(entries):
        size += len(orjson.dumps(entry))
        if size > LARGEST_ANSWER:
            return entries[:number]
    return entries


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
