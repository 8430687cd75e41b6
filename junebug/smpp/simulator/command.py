"""`junebug-smsc`: the simulated SMSC as a command, with HTTP and standard input to inject MOs. smsc.py does the work."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import stat
import sys
from datetime import datetime
from typing import Any, TypeVar

import orjson
from aiohttp import web

from junebug import __version__
from junebug.errors import JunebugError
from junebug.logs.redaction import escape_controls
from junebug.runtime.loop import run_async
from junebug.runtime.title import hide_secrets
from junebug.smpp import constants as c
from junebug.smpp.codec import encode
from junebug.smpp.pdu import DeliverSm, Pdu
from junebug.smpp.session import Direction
from junebug.smpp.simulator.messages import MESSAGE_IDS, MESSAGE_STATES, RECEIPT_IDS
from junebug.smpp.simulator.smsc import Smsc, SmscOptions

MO_FIELDS = frozenset(("from", "to", "content", "data_coding", "esm_class", "user_data", "tlvs", "system_id"))


def main() -> None:
    """The command."""
    parser = argument_parser()
    options = vars(parser.parse_args())
    hide_secrets([options["password"]])
    message_ids, receipt_ids = options["message_ids"], options["receipt_ids"]
    if (receipt_ids == "hex" and message_ids != "decimal") or (receipt_ids == "decimal" and message_ids != "hex"):
        parser.error(f"--receipt-ids {receipt_ids} does not go with --message-ids {message_ids}")
    http_port, pdus = options.pop("http_port"), options.pop("pdus")
    sys.exit(run_async(_run(SmscOptions(**options), http_port, pdus)))


def argument_parser() -> argparse.ArgumentParser:
    """Each option is the field of SmscOptions with its name, but for the last two."""
    default = SmscOptions()
    parser = argparse.ArgumentParser(
        prog="junebug-smsc",
        description="A simulated SMSC (SMPP 3.4 server): for development, tests and demonstrations without a provider.",
        epilog="Lines on standard input, `FROM TO TEXT`, are sent as messages from a phone. Over HTTP: POST /mo "
        '{"from", "to", "content"}, GET /messages, GET / (counts), POST /drop (cut all connections), POST /unbind.',
    )
    add = parser.add_argument
    add("--version", action="version", version=f"Junebug {__version__}", help="show the version and exit")
    add("--host", default=default.host, help="interface to listen on (%(default)s)")
    add("--port", type=port, default=default.port, metavar="PORT", help="port of SMPP (%(default)s; 0: a free one)")
    add("--system-id", default="", metavar="ID", help="whom to let in; without it anybody, with any password")
    add("--password", default="", metavar="TEXT", help="the password that --system-id binds with")
    add("--latency", type=seconds, default=0.0, metavar="SECONDS", help="time before a submit_sm is answered")
    for name, what in (
        ("throttle", "answer ESME_RTHROTTLED to"),
        ("refuse", "refuse"),
        ("drop", "cut the connection instead of answering"),
        ("silent", "take, but never answer,"),
    ):
        add(f"--{name}-every", type=count, default=0, metavar="N", help=f"{what} every N-th submit_sm")
    add("--refuse-status", type=_status, default="ESME_RSUBMITFAIL", metavar="STATUS", help="what with (%(default)s)")
    add("--no-receipts", dest="receipts", action="store_false", help="send no receipts to those who ask for them")
    add(
        "--receipt-delay", type=seconds, default=default.receipt_delay, metavar="SECONDS",
        help="before a receipt (%(default)s)",
    )
    add(
        "--receipt-status", type=_states, default="DELIVRD", metavar="STATE[,STATE...]",
        help=f"state of the first message, the second ..., in turn: {', '.join(MESSAGE_STATES)} (%(default)s)",
    )  # fmt: skip
    add(
        "--receipt-form", choices=("text", "tlv", "both"), default=default.receipt_form,
        help="where a receipt says what it says (%(default)s)",
    )  # fmt: skip
    add(
        "--receipt-ids", choices=tuple(RECEIPT_IDS), default=default.receipt_ids,
        help="how a message's id is written in its receipt (%(default)s)",
    )  # fmt: skip
    add("--message-ids", choices=tuple(MESSAGE_IDS), default=default.message_ids, help="kind of ids (%(default)s)")
    add("--duplicate-receipts", action="store_true", help="send each receipt twice")
    add("--late-receipts", type=seconds, default=0.0, metavar="SECONDS", help="send every other receipt so much later")
    add("--early-receipts", action="store_true", help="send each receipt before the submit_sm_resp")
    add("--http-port", type=port, metavar="PORT", help="port of the HTTP control, on the same interface")
    add("--pdus", action="store_true", help="print each PDU in hexadecimal")
    return parser


def port(value: str) -> int:
    return _within(int(value), 65535)


def count(value: str) -> int:
    return _within(int(value), sys.maxsize)


def seconds(value: str) -> float:
    return _within(float(value), 1e9)


Number = TypeVar("Number", int, float)


def _within(value: Number, most: Number) -> Number:
    if not 0 <= value <= most:
        raise argparse.ArgumentTypeError(f"{value} is not in 0..{most:g}")
    return value


def _status(value: str) -> int:
    try:
        return c.status_code(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _states(value: str) -> tuple[str, ...]:
    states = tuple(each.strip().upper() for each in value.split(","))
    for state in states:
        if state not in MESSAGE_STATES:
            raise argparse.ArgumentTypeError(f"{state!r} is none of {', '.join(MESSAGE_STATES)}")
    return states


async def _run(options: SmscOptions, http_port: int | None, pdus: bool) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    smsc = Smsc(options, on_event=_print, on_pdu=_print_pdu if pdus else None)
    runner = web.AppRunner(http_app(smsc), access_log=None)
    try:
        await smsc.start()
        _print(f"junebug-smsc is listening on {options.host}:{smsc.port}")
        if http_port is not None:
            await runner.setup()
            await web.TCPSite(runner, options.host, http_port).start()
            _print("HTTP control on http://{}:{}".format(*runner.addresses[0][:2]))
        _read_lines(smsc)
        await stop.wait()
    except OSError as error:
        print(f"junebug-smsc: {error.strerror or error}", file=sys.stderr)
        return 1
    finally:
        await smsc.unbind_all()
        await runner.cleanup()
        await smsc.stop()
    return 0


def _print(line: str) -> None:
    print(f"{datetime.now():%H:%M:%S.%f} {escape_controls(line)}", flush=True)


def _print_pdu(direction: Direction, raw: bytes, pdu: Pdu | None, tag: Any) -> None:
    _print(f"{direction:3} {pdu.command_name if pdu else 'undecodable'} {raw.hex()}")


def _read_lines(smsc: Smsc) -> None:
    """Messages from a phone, a line each, as long as somebody types them."""
    signal.signal(signal.SIGTTIN, signal.SIG_IGN)  # in the background: no input, but no stop either
    descriptor, rest = 0, b""
    loop = asyncio.get_running_loop()

    def read() -> None:
        nonlocal rest
        try:
            data = os.read(descriptor, 65536)
        except OSError:
            data = b""
        if not data:
            loop.remove_reader(descriptor)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            _obey(smsc, line.decode(errors="replace"))

    if sys.stdin is None:
        return  # closed: its number may be another file's by now
    mode = os.fstat(descriptor).st_mode
    if os.isatty(descriptor) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        loop.add_reader(descriptor, read)


def _obey(smsc: Smsc, line: str) -> None:
    words = line.split(maxsplit=2)
    if len(words) == 3:
        try:
            smsc.mo(*words)
        except JunebugError as error:
            _print(f"this cannot be sent: {error}")
    elif words:
        _print("a message from a phone is: FROM TO TEXT")


# --- HTTP -------------------------------------------------------------------------------------------------------------


def http_app(smsc: Smsc) -> web.Application:
    """Look at the SMSC and make it send."""

    def answer(value: Any, status: int = 200) -> web.Response:
        body = orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
        return web.Response(body=body, status=status, content_type="application/json")

    async def show(request: web.Request) -> web.Response:
        binds = [
            {"system_id": each.system_id, "bound_as": c.command_name(each.bound_as), "peer": each.session.peer}
            for each in smsc.clients
            if each.bound_as
        ]
        return answer({"binds": binds, "counts": smsc.counts, "messages": len(smsc.messages)})

    async def messages(request: web.Request) -> web.Response:
        wanted = {key: request.query[key] for key in ("to", "from", "message_id") if key in request.query}
        views = (each.view() for each in list(smsc.messages.values()))
        return answer([view for view in views if all(view[key] == value for key, value in wanted.items())])

    async def mo(request: web.Request) -> web.Response:
        try:
            body = orjson.loads(await request.read())
            return answer({"parts": send_mo(smsc, body)}, 201)
        except (ValueError, TypeError, JunebugError) as error:
            return answer({"error": str(error)}, 400)

    async def drop(request: web.Request) -> web.Response:
        smsc.drop_connections()
        return answer({})

    async def unbind(request: web.Request) -> web.Response:
        await smsc.unbind_all()
        return answer({})

    app = web.Application()
    app.add_routes([web.get("/", show), web.get("/messages", messages)])
    app.add_routes([web.post("/mo", mo), web.post("/drop", drop), web.post("/unbind", unbind)])
    return app


def send_mo(smsc: Smsc, body: Any) -> int:
    """What POST /mo takes: from, to and either content (text) or user_data (hexadecimal) with data_coding, esm_class, tlvs.

    The number of parts. Raises ValueError, TypeError and JunebugError.
    """
    if not isinstance(body, dict) or not all(isinstance(body.get(key), str) for key in ("from", "to")):
        raise ValueError('needed: {"from": "...", "to": "...", "content": "..."}')
    unknown = body.keys() - MO_FIELDS
    if unknown:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(sorted(MO_FIELDS))}")
    system_id = body.get("system_id")
    if body.keys().isdisjoint(("user_data", "data_coding", "esm_class", "tlvs")):
        if not isinstance(body.get("content"), str):
            raise ValueError("content: a text is needed")
        return smsc.mo(body["from"], body["to"], body["content"], system_id)
    tlvs = body.get("tlvs") or {}
    if not isinstance(tlvs, dict):
        raise ValueError("tlvs: an object is needed, of hexadecimal values")
    pdu = DeliverSm(
        source_addr=body["from"],
        destination_addr=body["to"],
        esm_class=body.get("esm_class", 0),
        data_coding=body.get("data_coding", 0),
        short_message=bytes.fromhex(body.get("user_data", "")) or str(body.get("content") or "").encode("latin-1"),
        tlvs={c.tlv_tag(name): bytes.fromhex(value) for name, value in tlvs.items()},
        sequence_number=1,
    )
    encode(pdu)
    smsc.deliver(pdu, system_id)
    return 1


if __name__ == "__main__":
    main()
