"""URLs with variables: what is refused when they are given, what they become (RFC 6570)."""

from __future__ import annotations

import re
from contextlib import suppress
from urllib.parse import unquote

import pytest

from junebug.model.templates import (
    EVENT_VARIABLES,
    LONGEST_VALUE,
    MO_VARIABLES,
    check,
    expand,
    expand_message,
    is_template,
)
from junebug.model.urls import parse
from tests.polling import takes_less
from tests.tables import rows

VALUES = {"from": "+27 82", "to": "8000", "content": "a&b/é?", "message_id": "1f", "group": None, "reply_to": None}


@rows(
    ("template", "url"),
    [
        ("http://host/in?a=%20b&c=1+2#x", "http://host/in?a=%20b&c=1+2#x"),
        ("http://host/{from}", "http://host/%2B27%2082"),
        ("http://host/sms?text={content}", "http://host/sms?text=a%26b%2F%C3%A9%3F"),
        ("http://host/sms{?from,to}", "http://host/sms?from=%2B27%2082&to=8000"),
        ("http://host/sms?x=1{&from,group,to}", "http://host/sms?x=1&from=%2B27%2082&to=8000"),
        ("http://host{/message_id}/in", "http://host/1f/in"),
        ("http://host/{+content}", "http://host/a&b/%C3%A9%3F"),
        ("http://host/?{+content}", "http://host/?a&b/%C3%A9?"),
        ("http://host/{content:1}", "http://host/a"),
        ("http://host/[{reply_to}]", "http://host/[]"),
        ("http://me:secret@host:8080/{to}", "http://me:secret@host:8080/8000"),
    ],
)
def test_expansion(template: str, url: str) -> None:
    check(template, MO_VARIABLES)
    assert expand(template, VALUES) == url


@rows(
    ("template", "problem"),
    [
        ("{to}", "begin with http"),
        ("{to}://host/", "begin with http"),
        ("http://{to}/", "begin with http"),
        ("http://host{to}/", "begin with http"),
        ("http://host:{to}/", "begin with http"),
        ("http://{to}@host/", "begin with http"),
        ("http://host{+content}", "begin with http"),
        ("ftp://host/{to}", "begin with http"),
        ("http://host/{to", "%7B"),
        ("http://host/to}", "%7B"),
        ("http://host/{}", "%7B"),
        ("http://host/{{to}}", "%7B"),
        ("http://host/{to,}", "%7B"),
        ("http://host/{=to}", "%7B"),
        ("http://host/{event_type}", "no variable {event_type}: there are message_id, from, to, content"),
        ("http://host/{from,sender}", "no variable {sender}"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_do(template: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        check(template, MO_VARIABLES)


def test_events_have_variables_of_their_own() -> None:
    template = "http://host/dlr?id={message_id}&type={event_type}&why={reason}"
    check(template, EVENT_VARIABLES)
    assert expand(template, {"message_id": "1", "event_type": "rejected", "reason": None}) == "http://host/dlr?id=1&type=rejected&why="


def test_an_event_url_may_also_say_what_the_message_says() -> None:
    template = "http://host/dlr{/to}?type={event_type}&text={content}{&group,from}&id={message_id}"
    check(template, EVENT_VARIABLES)
    given = expand_message(template, {**VALUES, "content": "{event_type}"})
    assert given == "http://host/dlr/8000?type={event_type}&text=%7Bevent_type%7D&from=%2B27%2082&id={message_id}"
    assert expand(given, {"event_type": "submitted", "message_id": "1f"}).startswith("http://host/dlr/8000?type=submitted&")


def test_an_expression_is_either_the_messages_or_the_events() -> None:
    with pytest.raises(ValueError, match="its own braces"):
        check("http://host/dlr{?to,event_type}", EVENT_VARIABLES)
    check("http://host/in{?to,message_id}", MO_VARIABLES)


DOTS = ["", ".", "..", "...", "%2e", "%2E%2e", ".%2E", "/", "/..", "../", "../..", "a/../..", "..;a=b",
        "..\\..", "\\..", "./", "a/.", "..\0", ".. ", " ..", "\0.", "\t.. ",
        "../../admin?x#y", "//evil/", "..#", "..?", "%2e%2e%2f", "%5c..",
        "..%3b", "http://evil/", ".\n", "é..", "..é", "%", "%%32%65"]  # fmt: skip
"""What a phone may say."""
PATHS = [
    "/app/sms/{content}/new", "/app/sms/{from}{content}/new", "/app/sms/.{content}/new", "/app/sms/{content}./new",
    "/app/sms/%2e{content}/new", "/app/sms/{content}%2E/new", "/app/sms/..{content}/new", "/app/sms/{content:1}/new",
    "/app/sms/{content:2}/new", "/app/sms/x{.content}/new", "/app/sms/{.content}/new", "/app/sms/.{.content}/new",
    "/app/sms/{;content}/new", "/app/sms/..{;content}/new", "/app/sms{/content}/new", "/app/sms{/from,content,to}/new",
    "/app/sms/{+content}/new", "/app/sms/.{+content}/new", "/app/sms/{content}",
    "/app/sms/{content}?x={content}", "/app/sms/{content}{?from}", "/app/sms/{content}{#from}",
    "/app/sms/{content*}/new", "/app/sms/a{&content}/new",
]  # fmt: skip


@rows("template", PATHS)
@rows("text", DOTS)
def test_a_phones_text_never_decides_the_path(template: str, text: str) -> None:
    said = {**VALUES, "from": text, "content": text}
    check(f"http://me:pw@host{template}", MO_VARIABLES)
    two_steps = expand(expand_message(f"http://me:pw@host{template}", said), said)
    for url in (expand(f"http://me:pw@host{template}", said), two_steps):
        called = parse(url)
        assert called.host == "host"
        path = called.target.partition("?")[0]
        assert path.startswith("/app/sms")
        assert path.endswith("/new") == (("/new" in template) or text.endswith("/new"))
        for segment in re.split(r"[/\\]", unquote(path)):
            assert not re.fullmatch(r"\.\.?([;\0-\x20].*)?", segment, re.DOTALL), path


def test_what_is_no_dots_is_not_changed() -> None:
    assert expand("http://h/../a.b/%2e/{content}.{to}", {"content": "1.5", "to": "..."}) == "http://h/../a.b/%2e/1.5...."
    assert expand("http://h/{content}", {"content": ".."}) == "http://h/%252E%252E"
    assert expand("http://h/sms/{content}/new", {"content": ""}) == "http://h/sms//new"
    assert expand("http://h/sms/{content}/new", {"content": None}) == "http://h/sms//new"
    assert expand("http://h/?x={content}", {"content": ".."}) == "http://h/?x=.."


@pytest.mark.parametrize("template", ["http://{content}/", "http://host{content}", "{content}", "http://a@{content}:1/"])
def test_no_value_decides_the_host_whoever_gave_the_template(template: str) -> None:
    assert expand(template, {"content": "http://evil/"}) == template


@rows("operator", ["", "+", "#", "/", "?", ";"])
@rows("text", [".", "../", "%2e%2f", "\0", "é", "%", "{", ";"])
def test_a_text_of_any_length_is_filled_in_or_refused_in_little_time(operator: str, text: str) -> None:
    template = f"http://host/sms/{{{operator}content}}/new"
    for length in (LONGEST_VALUE, 1_000_000):
        value = (text * length)[:length]
        if length > LONGEST_VALUE:
            with pytest.raises(ValueError, match="content is too long for a URL"):
                expand(template, {"content": value})
        else:
            parse(expand(template, {"content": value}))

        def work(value: str = value) -> None:
            with suppress(ValueError):
                parse(expand(template, {"content": value}))

        assert takes_less(0.5, work)


@pytest.mark.parametrize("text", ["%41{reason}", "%41{", "%41}\r\nX: y", "%41\0", "%zz%41 ", "%41#x", "{reason}%"])
def test_no_value_is_a_template_nor_more_than_a_url(text: str) -> None:
    for template in ("http://h/{+content}?{+content}", "http://h/?{+content}", "http://h/x{#content}"):
        said = expand_message(template, {"content": text})
        assert not is_template(said)
        assert said.isprintable()
        assert " " not in said
        assert parse(said).host == "h"
