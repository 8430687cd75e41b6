"""Channel type smpp with SMSCs that nobody here wrote: those of smpp34, of smpp-twisted3 (PyPI) and of node-smpp (npm).

Each is a process of its own (interop/): it takes what is submitted but for texts that begin with `refuse`, sends a
receipt, and the message back as one from a phone. One that is not installed is skipped; JUNEBUG_TEST_INTEROP_PYTHON may
name an interpreter that has the two, NODE_PATH the directory of the third.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.blackbox.conftest import Channels
from tests.blackbox.test_smpp import FROM, TO, send, smpp, until_events, until_status
from tests.harness import WebhookSink, free_port
from tests.polling import eventually

HERE = Path(__file__).parent / "interop"
PYTHON = os.environ.get("JUNEBUG_TEST_INTEROP_PYTHON", sys.executable)
SMSCS = {
    "smpp34": ((PYTHON, "-c", "import smpp34"), (PYTHON, str(HERE / "smpp34_smsc.py"))),
    "twisted": ((PYTHON, "-c", "import smpp.twisted.server"), (PYTHON, str(HERE / "twisted_smsc.py"))),
    "node": (("node", "-e", "require('smpp')"), ("node", str(HERE / "node_smsc.js"))),
}
CHECKS_PASSWORDS = ("twisted", "node")


def is_installed(name: str) -> bool:
    try:
        return subprocess.run(SMSCS[name][0], capture_output=True, timeout=30, check=False).returncode == 0
    except OSError:
        return False


@pytest.fixture(scope="module", params=list(SMSCS))
def name(request: pytest.FixtureRequest) -> str:
    if not is_installed(request.param):
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


@pytest.fixture
def port(name: str, short_dir: Path) -> Iterator[int]:
    """Where that SMSC listens."""
    number = free_port()
    output = short_dir / "smsc"
    with output.open("wb") as out:
        process = subprocess.Popen(
            [*SMSCS[name][1], str(number)], stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=short_dir
        )
    try:
        yield number
    finally:
        process.kill()
        process.wait()
        print(output.read_text()[-3000:])


@pytest.fixture
async def ready(port: int, short_dir: Path) -> int:
    await eventually(lambda: "ready" in (short_dir / "smsc").read_text(), what="the SMSC")
    return port


async def test_it_takes_our_messages_and_we_take_its(
    channels: Channels, sink: WebhookSink, ready: int, name: str
) -> None:
    options = {"udh": {}, "sar": {"send_multipart_sar": True}, "payload": {"send_long_messages": True}}
    for way, config in options.items():
        channel = await smpp(channels, ready, password="right", smpp_enquire_link_interval=1, **config)
        for content in (f"hello {way}", f"Привет {way} 😀", f"a long one by {way} " * 20):
            message_id = await send(channel, sink, content)
            await until_events(sink, message_id, "submitted", "delivery_succeeded")
            body = await sink.wait_content("/mo", content)
            assert (body["from"], body["to"], body["channel_id"]) == (TO, FROM, channel.id)
        refused = await send(channel, sink, "refuse this")
        event = await channel.event(refused, "rejected")
        assert event["event_details"]["reason"] == "ESME_RINVDSTADR"

        async def enquired() -> bool:
            return any(line.get("pdu") == "enquire_link_resp" for line in await channel.logs(n=100))  # noqa: B023

        await eventually(enquired)
        ids = [await send(channel, sink, f"{way} number {n}") for n in range(50)]
        for message_id in ids:
            await until_events(sink, message_id, "submitted", "delivery_succeeded")
        assert [body for body in sink.bodies("/status") if body["type"] == "connection_lost"] == []
        await channel.delete()


async def test_it_refuses_a_wrong_password_and_we_say_so(channels: Channels, ready: int, name: str) -> None:
    if name not in CHECKS_PASSWORDS:
        pytest.skip("it lets everybody in")
    channel = await smpp(channels, ready, bound=False, password="wrong")
    refused = await until_status(channel, "bind_refused")
    assert refused["details"]["command_status"] == "ESME_RINVPASWD"
