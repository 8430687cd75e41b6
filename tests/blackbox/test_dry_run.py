"""What a dry run tells of a message is what the provider gets of it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from tests.blackbox.conftest import Channels
from tests.blackbox.smsc import MESSAGE_PAYLOAD, UDHI, Submit, WireSmsc
from tests.blackbox.test_smpp import FROM, TO, smpp
from tests.harness import THOROUGH

PIECES = ("plain text ", "[€]{}^", "\u201cquoted\u201d", " \u2013 ", "it\u2019s ", "Привет ", "\U0001f600", "é", "0123456789" * 8)
OPTIONS = ({}, {"gsm_safe": True, "send_multipart_sar": True}, {"gsm_safe": True, "send_long_messages": True})


@pytest.fixture
async def smsc() -> AsyncIterator[WireSmsc]:
    async with WireSmsc() as server:
        yield server


def user_data(submit: Submit) -> bytes:
    return submit.tlvs.get(MESSAGE_PAYLOAD, submit.short_message)


async def test_the_parts_of_a_dry_run_are_those_that_are_sent(channels: Channels, smsc: WireSmsc) -> None:
    chance = random.Random(5)
    for options in OPTIONS:
        channel = await smpp(channels, smsc.port, **options)
        for _ in range(10 * THOROUGH):
            content = "".join(chance.choices(PIECES[: chance.choice((2, 5, len(PIECES)))], k=chance.randrange(1, 30)))
            body = {"to": TO, "from": FROM, "content": content}
            before = len(smsc.submits)
            answer = await channel.api.post(f"{channel.path}/messages/?dry_run=true", body)
            assert answer.status == 200, answer
            told = answer.result
            assert told["estimate"]["seconds"] == 0.0
            assert len(smsc.submits) == before
            await channel.event(str((await channel.send(**body))["message_id"]), "submitted")
            sent = smsc.submits[before:]
            assert [len(user_data(each)) for each in sent] == [part["octets"] for part in told["parts"]]
            assert {each.data_coding for each in sent} == {told["encoding"]["data_coding"]}
            assert {bool(each.esm_class & UDHI) for each in sent} == {told["parts"][0]["header"] == "udh"}
            if told["encoding"]["name"] == "ucs2":
                texts = [user_data(each)[6 if each.esm_class & UDHI else 0 :].decode("utf-16-be") for each in sent]
                assert texts == [part["content"] for part in told["parts"]]
