"""The PDU log: what repeats without end is counted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from junebug.smpp.codec import encode
from junebug.smpp.pdu import EnquireLink, EnquireLinkResp, SubmitSm
from junebug.transports.smpp.pdu_line import show
from junebug.transports.smpp.pdu_log import COUNTED_FOR, PduLog


def test_enquire_links_are_counted_and_not_written_each(monkeypatch: pytest.MonkeyPatch) -> None:
    entries: list[dict[str, Any]] = []
    now = 0.0
    log = PduLog(False, lambda: now)
    monkeypatch.setattr(log, "_log", SimpleNamespace(info=lambda event, **entry: entries.append(entry)))
    asked, answer = EnquireLink(sequence_number=1), EnquireLinkResp(sequence_number=1)
    for _ in range(16_000):
        log("in", encode(asked), asked, None)
        log("out", encode(answer), answer, None)
    submit = SubmitSm(sequence_number=2)
    for _ in range(3):
        log("out", encode(submit), submit, None)
    pdus = [show({}, {"message": "PDU", **entry})["pdu"] for entry in entries]
    assert pdus == ["enquire_link", "enquire_link_resp", *["submit_sm"] * 3]
    now += COUNTED_FOR
    log("in", encode(asked), asked, None)
    now += COUNTED_FOR
    log("in", encode(asked), asked, None)
    assert [entry.get("not_logged_before") for entry in entries[-2:]] == [15_999, None]
