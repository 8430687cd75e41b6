"""`junebug send --csv`: a message for each row, in batches, each with an Idempotency-Key.

Neighbours: csv_rows.py reads the file, csv_state.py knows how far it is.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from junebug_client.models import Messages
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from junebug.client import csv_rows, csv_state
from junebug.client.api import Refused
from junebug.client.command import Junebug
from junebug.client.csv_rows import Batch, Rows
from junebug.client.exits import Exit, Failure
from junebug.client.values import Json

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
NOT_NOW = {"BrokerUnavailable", "StoreUnavailable", "Unavailable", "Overloaded", "NotRunning"}
"""Errors of a message that another time may be none."""


def send_file(
    junebug: Junebug, channel: str, file: str, defaults: Json, batch_size: int, again: bool, patience: float
) -> int:
    """The exit code: 0 when every row was taken. Raises Failure; the same command then goes on."""
    path = Path(file)
    with csv_rows.opened(path) as rows:
        if "content" not in rows.header and "content" not in defaults:
            raise Failure(f"{path}: no column is named content", Exit.USAGE)
        new = csv_state.State(secrets.token_hex(16), rows.digest, _manner(junebug, channel, defaults), batch_size)
        sending = csv_state.Sending.of(path, new, again)
        state = sending.state
        if state.is_finished:
            junebug.out.note(f"{path} was sent already: {state.accepted} taken, {state.rejected} refused; --again sends it anew")
            return _summed_up(junebug, path, sending)
        total = rows.count()
        if state.rows:
            junebug.out.note(f"{path}: {state.rows} of {total} rows are done; going on")
        sending.begin()
        try:
            _send_rows(junebug, channel, rows, sending, defaults, patience, total)
        except KeyboardInterrupt:
            raise Failure(f"{state.rows} of {total} rows are done; the same command goes on", Exit.INTERRUPTED) from None
        except Failure as failure:
            if sending.is_new and not state.rows and isinstance(failure, Refused) and failure.error.status < 500:
                sending.forget()
                raise
            done = f"{state.rows} of {total} rows are done, the same command goes on"
            raise Failure(f"{failure}; {done}", failure.exit_code) from None
        state.is_finished = True
        sending.save()
        return _summed_up(junebug, path, sending)


def _manner(junebug: Junebug, channel: str, defaults: Json) -> str:
    """Where and how it is sent: going on must be the same. What may be secret in it is not told."""
    how = hashlib.sha256(json.dumps(defaults, sort_keys=True).encode()).hexdigest()[:8]
    return f"channel {channel} at {junebug.api.url}, flags {how}"


def _send_rows(
    junebug: Junebug, channel: str, rows: Rows, sending: csv_state.Sending, defaults: Json, patience: float, total: int
) -> None:
    state = sending.state
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=junebug.out.errors, disable=not junebug.out.errors.is_terminal) as bar:
        task = bar.add_task("sending", total=total, completed=state.rows)
        for batch in rows.batches(state.rows, state.batch_size, defaults):
            rows.check_unchanged()
            reasons = dict(batch.reasons)
            if batch.messages:
                reasons |= _send_batch(junebug, channel, batch, f"{state.run}-{batch.first}", patience)
            failed = [rows.failed(batch.rows[index], reason) for index, reason in sorted(reasons.items())]
            sending.done(len(batch.rows), len(batch.rows) - len(failed), failed, rows.failed_header())
            bar.update(task, completed=state.rows)


def _send_batch(junebug: Junebug, channel: str, batch: Batch, key: str, patience: float) -> dict[int, str]:
    """Index -> why it was refused. Asks, with the same key, until each message has its outcome, or `patience` is over."""
    body, ends, pause = cast(Messages, [*batch.messages.values()]), time.monotonic() + patience, FIRST_PAUSE
    told = False
    while True:
        try:
            answer = junebug.api.send_messages(channel, body, idempotency_key=key)
            trouble = _put_off(answer["messages"])
            if trouble is None:
                return _reasons(batch, answer["messages"])
            failure = Failure(f"Junebug did not take all: {trouble}", Exit.AWAY)
        except Refused as refused:
            messages = refused.error.result.get("messages")
            if messages and refused.error.status == 400 and _put_off(messages) is None:
                return _reasons(batch, messages)
            if refused.exit_code is not Exit.AWAY and refused.error.code != "RequestInProgress":
                raise
            failure = refused
        except Failure as away:
            if away.exit_code is not Exit.AWAY:
                raise
            failure = away
        if time.monotonic() > ends:
            raise Failure(str(failure), Exit.AWAY)
        if not told:
            junebug.out.note(f"{failure}; trying again")
        told = True
        time.sleep(min(pause, max(0.0, ends - time.monotonic())))
        pause = min(pause * 2, LONGEST_PAUSE)


def _put_off(messages: Sequence[Any]) -> str | None:
    """Why one of them could not be taken at this moment; None: each has its outcome."""
    errors = (error for each in messages for error in each.get("errors", ()))
    return next((str(error["message"]) for error in errors if error["type"] in NOT_NOW), None)


def _reasons(batch: Batch, messages: Sequence[Any]) -> dict[int, str]:
    return {
        index: "; ".join(str(error["message"]) for error in each["errors"])
        for index, each in zip(batch.messages, messages, strict=True)
        if "errors" in each
    }


def _summed_up(junebug: Junebug, path: Path, sending: csv_state.Sending) -> int:
    state = sending.state
    failed = str(sending.failed_path) if state.rejected else None
    told: dict[str, Any] = {"file": str(path), "rows": state.rows, "accepted": state.accepted, "rejected": state.rejected}
    told["failed_file"] = failed
    junebug.out.fields({name.replace("_", " "): value for name, value in told.items()}, told)
    return Exit.FAILED if state.rejected else Exit.GOOD
