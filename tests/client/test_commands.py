"""Every command of `junebug` that asks the API, against a real one that wants a token."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from junebug.client.main import main
from tests.client import conftest
from tests.client.running import NO_ADDRESS, TOKEN, Cli, Ran
from tests.harness import JunebugProcess, Reply, WebhookSink, unique
from tests.polling import eventually, eventually_blocking
from tests.tables import rows

FLAGS = {**conftest.FLAGS, "callback-retry-delays": "0.1,0.2"}
NOBODY = "00000000-0000-4000-8000-000000000000"
Made = dict[str, str]
WordsOf = Callable[[str, bool], list[str]]


def make(cli: Cli, *words: str) -> str:
    """The id of what a command makes."""
    return str(cli(*words, "--json").good().json["id"])


@pytest.fixture(scope="module")
def made(jb: JunebugProcess) -> Made:
    """A channel, a router with a destination and a channel of its own, a message."""
    cli = Cli(jb.api.url)
    channel = make(cli, "channels", "create", "--type", "loopback", "--amqp-queue", unique("app"), "--label", "first one")
    routed = make(cli, "channels", "create", "--type", "loopback")
    router = make(cli, "routers", "create", "--type", "from_address", "--config", f"channel={routed}")
    destination = make(
        cli, "routers", "destinations", "create", router, "--config", "regular_expression=^8110$", "--amqp-queue", unique("app")
    )
    sent = cli("send", "--channel", channel, "--to", "+27", "--content", "hi", "--wait", "--json").good().json
    return {"channel": channel, "routed": routed, "router": router, "destination": destination, "message": sent["message_id"]}


# --- every command -----------------------------------------------------------------------------------------------------


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name)


EACH: dict[str, str] = {
    "channels list": "", "channels show": "CHANNEL", "channels create": "--type loopback",
    "channels edit": "CHANNEL --label other",
    "channels restart": "CHANNEL", "channels pause": "CHANNEL", "channels resume": "CHANNEL", "channels delete": "NEW --yes",
    "routers list": "", "routers show": "ROUTER", "routers create": "--type outbound --file OUTBOUND",
    "routers edit": "ROUTER --label other", "routers restart": "ROUTER", "routers delete": "NEWROUTER --yes",
    "routers destinations list": "ROUTER", "routers destinations show": "ROUTER DESTINATION",
    "routers destinations create": "ROUTER --config regular_expression=^9$ --mo-url http://127.0.0.1:1/",
    "routers destinations edit": "ROUTER DESTINATION --character-limit 100",
    "routers destinations delete": "ROUTER NEWDESTINATION --yes",
    "send": "--channel CHANNEL --to +27 --content hello", "logs": "CHANNEL -n 1",
    "dead-letters list": "CHANNEL", "dead-letters replay": "CHANNEL", "dead-letters delete": "CHANNEL --yes",
    "tokens create": "someone --scope messages:send", "tokens list": "", "tokens revoke": "NEWTOKEN",
    "messages": "--limit 100", "timeline": "CHANNEL MESSAGE",
}  # fmt: skip
"""Every command that asks the API -> its arguments; words in capitals are ids."""
OTHERS = {"completion", "hosts list", "hosts drain", "hosts undrain", "doctor", "backup", "restore", "tail"}
"""What asks no API, and has tests of its own."""


def test_every_command_is_in_the_table() -> None:
    assert {" ".join(path) for path in leaves(main)} - OTHERS == EACH.keys()


@pytest.fixture
def words_of(cli: Cli, made: Made, tmp_path: Path) -> WordsOf:
    """The words of a command in the table; what it deletes is made, or is nobody."""
    outbound = tmp_path / "outbound.json"
    outbound.write_text(json.dumps({"config": {"channels": [{"channel": made["channel"], "prefixes": ["27"]}]}}))
    new: dict[str, Callable[[], str]] = {
        "NEW": lambda: make(cli, "channels", "create", "--type", "loopback"),
        "NEWROUTER": lambda: make(cli, "routers", "create", "--type", "outbound", "--file", str(outbound)),
        "NEWDESTINATION": lambda: make(
            cli, "routers", "destinations", "create", made["router"], "--config", "regular_expression=^7$"
        ),
        "NEWTOKEN": lambda: make(cli, "tokens", "create", "x", "--scope", "admin"),
        "OUTBOUND": lambda: str(outbound),
    }  # fmt: skip

    def word(text: str, is_new: bool) -> str:
        if not text.isupper():
            return text
        return made.get(text.lower()) or (new[text]() if is_new or text == "OUTBOUND" else NOBODY)

    return lambda command, is_new: [word(text, is_new) for text in (*command.split(), *EACH.get(command, "").split())]


@rows("command", EACH)
def test_every_command_prints_json(cli: Cli, words_of: WordsOf, command: str) -> None:
    """One document and nothing else; and for people something else that is none."""
    ran = cli(*words_of(command, True), "--json").good()
    json.loads(ran.out)
    assert ran.err == ""
    ran = cli(*words_of(command, True)).good()
    assert ran.out + ran.err
    assert not ran.out.startswith(("{", "["))


@rows("command", [*EACH, "tail"])
def test_every_command_needs_its_token(cli: Cli, words_of: WordsOf, command: str) -> None:
    Cli(cli.url, None)(*words_of(command, False)).failed(4, "JUNEBUG_TOKEN")


@rows("command", [*EACH, "tail"])
def test_every_command_says_that_junebug_is_away(
    words_of: WordsOf, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    Cli(NO_ADDRESS)(*words_of(command, False)).failed(5, NO_ADDRESS, "cannot be reached")


# --- errors ------------------------------------------------------------------------------------------------------------


@rows(
    ["words", "code", "told"],
    [
        ("channels show NOBODY", 3, "no channel"),
        ("channels edit NOBODY --label x", 3, "no channel"),
        ("channels delete NOBODY --yes", 3, "no channel"),
        ("send --channel NOBODY --to 1 --content x", 3, "no channel"),
        ("logs --router NOBODY", 3, "no router"),
        ("routers destinations show ROUTER NOBODY", 3, "no destination"),
        ("dead-letters replay CHANNEL --id nothing", 3, "dead letter"),
        ("timeline CHANNEL NOBODY", 3, "No message"),
        ("timeline CHANNEL", 2, "CHANNEL MESSAGE"),
        ("messages --since yesterday", 2, "since"),
        ("messages --status odd", 2, "status"),
        ("dead-letters list CHANNEL --router ROUTER", 2, "either CHANNEL or --router"),
        ("dead-letters list", 2, "either CHANNEL or --router"),
        ("send --channel CHANNEL --destination x --content x", 2, "--destination goes with --router"),
        ("send --channel CHANNEL --to +27", 2, "--content"),
        ("send --channel CHANNEL --to +27 --content x --priority 9", 2, "--priority"),
        ("send --channel CHANNEL --to +27 --content x --reply-to y", 2, "reply_to"),
        ("send --router ROUTER --csv x.csv", 2, "--csv goes with --channel"),
        ("channels create", 2, "--type"),
        ("channels create --type nosuch", 2, "nosuch"),
        ("channels create --type telnet --config telnet_port=many", 2, "--config telnet_port: expected integer"),
        ("channels create --type telnet --config telnet_port", 2, "KEY=VALUE"),
        ("channels create --type telnet --config nosuch=1", 2, "nosuch"),
        ("channels create --file /nonexistent", 2, "/nonexistent"),
        ("channels nosuch", 2, "nosuch"),
        ("channels list --nosuch", 2, "--nosuch"),
        ("channels show .", 2, "is no id"),
        ("channels list --url ftp://x", 2, "--url"),
        ("channels list --url http://[x", 2, "--url"),
        ("channels list --token ü", 2, "--token"),
        ("channels list --token jb_000000000000_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 4, "token"),
    ],
)
def test_what_goes_wrong_is_one_line_and_its_exit_code(cli: Cli, made: Made, words: str, code: int, told: str) -> None:
    known = {**made, "nobody": NOBODY}
    cli(*(known[word.lower()] if word.isupper() else word for word in words.split())).failed(code, told)


def test_a_token_that_may_not_is_told_so(cli: Cli, made: Made) -> None:
    token = cli("tokens", "create", "sender", "--scope", "messages:send", "--for", made["channel"]).good().out.strip()
    sender = Cli(cli.url, token, (token,))
    sender("send", "--channel", made["channel"], "--to", "+27", "--content", "x").good()
    sender("channels", "show", made["channel"]).failed(4)
    sender("send", "--channel", made["routed"], "--to", "+27", "--content", "x").failed(4)


@rows("userinfo", [TOKEN, f"anybody:{TOKEN}"])
def test_a_token_in_the_url_is_sent_and_not_shown(cli: Cli, userinfo: str) -> None:
    host = cli.url.removeprefix("http://")
    Cli(f"http://{userinfo}@{host}/", None)("channels", "list").good()
    Cli(f"http://{userinfo}@127.0.0.1:1", None)("channels", "list").failed(5, "http://127.0.0.1:1 cannot be reached")


def test_deleting_asks_and_off_a_terminal_wants_yes(cli: Cli, made: Made) -> None:
    for answer, code, told in (("", 2, "--yes"), ("n\n", 1, "nothing was deleted")):
        ran = cli("channels", "delete", made["channel"], input=answer)
        assert (ran.code, told in ran.err) == (code, True)
    new = make(cli, "channels", "create", "--type", "loopback")
    cli("channels", "delete", new, input="y\n").good()
    cli("channels", "show", new).failed(3)


# --- what they do ------------------------------------------------------------------------------------------------------


def test_a_channel_is_made_of_typed_flags_and_changed_in_part(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "channel.json"
    file.write_text(json.dumps({"type": "smpp", "label": "from the file", "config": {"host": "127.0.0.1", "port": 1}}))
    secret = "a-password-for-nobody"
    careful = Cli(cli.url, secrets=(TOKEN, secret))
    channel = careful(
        "channels", "create", "--file", str(file), "--label", "mine", "--config", "port=2775", "--config", "system_id=42",
        "--metadata", "team=ops", "--ask", "config.password", "--json", input=f"{secret}\n",
    ).good().json  # fmt: skip
    assert channel["config"] == {"host": "127.0.0.1", "port": 2775, "system_id": "42", "password": "********"}
    assert (channel["label"], channel["metadata"]) == ("mine", {"team": "ops"})

    id = channel["id"]
    changed = careful("channels", "edit", id, "--config", "port=2776", "--label", "", "--metadata", "n=1", "--json").good().json
    assert changed["config"] == {**channel["config"], "port": 2776}
    assert (changed.get("label"), changed["metadata"]) == (None, {"team": "ops", "n": 1})
    renamed = careful("channels", "edit", id, "--unset", "port", "--config", "port=2777", "--json").good().json
    assert renamed["config"]["port"] == 2777
    careful("channels", "edit", id, "--unset", "system_id").failed(2, "system_id")
    shown = careful("channels", "show", id).good().out
    assert "config.port\t2777\n" in shown
    careful("channels", "delete", id, "--yes").good()


def test_json_comes_from_stdin(cli: Cli) -> None:
    new = cli("channels", "create", "-f", "-", "--json", input='{"type": "loopback", "config": {}}').good().json["id"]
    assert new in cli("channels", "list", "--ids").out.split()
    cli("channels", "delete", new, "--yes").good()


def test_the_list_is_plain_off_a_terminal_and_drawn_on_one(cli: Cli, made: Made) -> None:
    plain = cli("channels", "list").good().out.splitlines()
    assert plain[0] == "ID\tTYPE\tLABEL\tSTATUS\tQUEUE\tCALLBACKS\tDEAD"
    assert f"{made['channel']}\tloopback\t" in "\n".join(plain)
    drawn = cli("channels", "list", environment={"FORCE_COLOR": "1", "COLUMNS": "150"}).out
    assert "\x1b[1m" in drawn
    colourless = cli("channels", "list", environment={"FORCE_COLOR": "1", "NO_COLOR": "1", "COLUMNS": "150"}).out
    assert re.findall(r"\x1b\[[0-9;]*3[0-9]m", colourless) == []


def test_what_others_wrote_moves_no_cursor(cli: Cli) -> None:
    label = "evil\x1b[2Jlabel\nforged\tline"
    id = make(cli, "channels", "create", "--type", "loopback", "--label", label)
    for environment in ({}, {"FORCE_COLOR": "1", "COLUMNS": "200"}):
        for words in (("channels", "list"), ("channels", "show", id)):
            out = cli(*words, environment=environment).good().out
            assert "\x1b[2J" not in out
            assert "evil\\x1b[2Jlabel\\nforged\\tline" in out
    cli("channels", "delete", id, "--yes").good()


def test_a_channel_is_paused_and_resumed(cli: Cli, made: Made) -> None:
    cli("channels", "pause", made["channel"]).good()
    assert "\tpaused\t" in cli("channels", "list").out
    waits = cli("send", "--channel", made["channel"], "--to", "+27", "--content", "later", "--wait", "--timeout", "0.3")
    waits.failed(1, "no event within 0.3 s", "timeline")
    cli("channels", "resume", made["channel"]).good()


async def test_dead_letters_are_listed_replayed_and_deleted(cli: Cli, sink: WebhookSink) -> None:
    def run(*words: str) -> Ran:
        return cli(*words).good()

    def listed() -> list[Any]:
        found: list[Any] = run("dead-letters", "list", channel, "--json").json["dead_letters"]
        return found

    sink.always["/mo"] = Reply(400)
    channel = await asyncio.to_thread(make, cli, "channels", "create", "--type", "loopback", "--mo-url", sink.url("/mo"))
    for text in ("one", "two"):
        await asyncio.to_thread(run, "send", "--channel", channel, "--to", "+27", "--content", text)
    one, two = await eventually(lambda: len(found := listed()) == 2 and found)
    sink.always.clear()
    assert (await asyncio.to_thread(run, "dead-letters", "replay", channel, "--id", one["id"], "--json")).json["replayed"] == 1
    assert [each["id"] for each in await asyncio.to_thread(listed)] == [two["id"]]
    assert "1 deleted" in (await asyncio.to_thread(run, "dead-letters", "delete", channel, "--id", two["id"], "--yes")).err
    await asyncio.to_thread(run, "channels", "delete", channel, "--yes")


@rows("target", ["--channel CHANNEL", "--router ROUTER --destination DESTINATION"])
def test_a_message_is_sent_by_a_channel_and_a_destination(cli: Cli, made: Made, target: str) -> None:
    where = [made[word.lower()] if word.isupper() else word for word in target.split()]
    sent = cli("send", *where, "--to", "+27", "--from", "8110", "--content", "-", "--wait", "--json", input="over\nstdin\n")
    assert sent.good().json["content"] == "over\nstdin"
    assert "submitted" in [event["event_type"] for event in sent.json["events"]]


def test_a_dry_run_tells_how_it_would_be_and_sends_nothing(cli: Cli, made: Made) -> None:
    smpp = make(cli, "channels", "create", "--type", "smpp", "--amqp-queue", unique("app"), *(
        word for pair in ("host=127.0.0.1", "port=1", "system_id=a", "password=b") for word in ("--config", pair)
    ))  # fmt: skip
    outbound = json.dumps({"type": "outbound", "config": {"channels": [{"channel": made["channel"], "prefixes": ["27"]}]}})
    router = cli("routers", "create", "-f", "-", "--id", input=outbound).good().out.strip()
    def shown() -> str:
        out: str = cli("send", "--channel", smpp, "--to", "+27", "--content", "it’s on", "--dry-run").good().out
        return out

    for words in ("encoding\tucs2: GSM 03.38 has no U+2019", "gsm_safe would replace\t’→'", "part 1\tit’s on"):
        assert words in shown()
    eventually_blocking(lambda: "because\t" in shown(), what="that it is not bound")
    by_router = cli("send", "--router", router, "--to", "+27", "--content", "x", "--dry-run")
    assert "chosen for\tprefix 27" in by_router.good().out
    words = ("--router", made["router"], "--destination", made["destination"])
    assert cli("send", *words, "--to", "+27", "--content", "x", "--dry-run", "--json").good().json["dry_run"] is True
    assert cli("channels", "show", smpp, "--json").good().json["status"]["queue_length"] == 0
    for resource, id in (("channels", smpp), ("routers", router)):
        cli(resource, "delete", id, "--yes").good()


def test_the_same_key_sends_once(cli: Cli, made: Made) -> None:
    words = ("send", "--channel", made["channel"], "--to", "+27", "--content", "x", "--idempotency-key", unique("key"), "--json")
    assert cli(*words).good().json["message_id"] == cli(*words).good().json["message_id"]


def test_a_message_is_found_and_its_life_is_told(cli: Cli, made: Made) -> None:
    def found() -> list[str]:
        words = ("messages", "--to", "27", "--since", "1h", "--direction", "outbound", "--channel", made["channel"], "--json")
        return [each["message_id"] for each in cli(*words).good().json["messages"]]

    assert eventually_blocking(lambda: made["message"] in found())
    assert cli("messages", "--to", "nobody", "--json").good().json["messages"] == []
    life = cli("timeline", made["channel"], made["message"]).good().out
    assert life.splitlines()[0].endswith(".")
    assert re.search(r"^[\d :.-]+\taccepted\t", life, re.MULTILINE)
    sent = cli("send", "--router", made["router"], "--destination", made["destination"], "--to", "+1", "--content", "x", "--id")
    cli("timeline", "--router", made["router"], sent.good().out.strip()).good()


def test_what_happens_is_seen_as_it_happens(cli: Cli, made: Made) -> None:
    """And what came while nobody looked, by the id of what was seen last."""
    words = ("tail", "--channel", made["channel"], "--kind", "event", "-n", "1", "--json")
    with cli.sending(made["channel"]) as sent:
        event = cli(*words).good().json
    assert (event["kind"], event["channel_id"]) == ("event", made["channel"])
    later = cli.send(made["channel"])
    for _ in range(2 * len(sent) + 20):
        event = cli(*words, "--after", event["id"]).good().json
        if event["message_id"] == later:
            return
    pytest.fail("it was not seen")


def test_logs_come_oldest_first_and_of_one_message(cli: Cli, made: Made) -> None:
    def logged() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = cli("logs", made["channel"], "--message", made["message"], "--json").good().json
        return found

    entries = eventually_blocking(logged)
    assert {entry["message_id"] for entry in entries} == {made["message"]}
    assert [entry["timestamp"] for entry in entries] == sorted(entry["timestamp"] for entry in entries)
    assert made["message"] in cli("logs", made["channel"], "--message", made["message"]).good().out


# --- completion, and the process ---------------------------------------------------------------------------------------


def completed(cli: Cli, line: str) -> list[str]:
    """What bash is offered for the last word."""
    words = line.split(" ")
    environment = {"_JUNEBUG_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    return [item.partition(",")[2] for item in cli(environment=environment).out.split()]


def test_a_shell_completes_commands_options_and_ids(cli: Cli, made: Made) -> None:
    assert completed(cli, "junebug chan") == ["channels"]
    assert completed(cli, "junebug channels re") == ["restart", "resume"]
    assert "--dry-run" in completed(cli, "junebug send --d")
    assert completed(cli, "junebug channels create --type telnet") == ["telnet", "telnet_addr"]
    assert completed(cli, "junebug routers create --type out") == ["outbound"]
    assert made["channel"] in completed(cli, "junebug channels show ")
    assert completed(cli, f"junebug channels show {made['channel'][:20]}") == [made["channel"]]
    assert made["destination"] in completed(cli, f"junebug routers destinations show {made['router']} ")
    assert made["destination"] in completed(cli, f"junebug send --router {made['router']} --destination ")


def test_without_an_api_there_is_no_completion_and_no_noise() -> None:
    assert completed(Cli(NO_ADDRESS), "junebug channels show ") == []


@rows("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_each_shell(shell: str) -> None:
    assert "_JUNEBUG_COMPLETE" in Cli(NO_ADDRESS)("completion", shell).good().out
