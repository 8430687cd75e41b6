"""URLs with variables: what is refused when they are given, what they become (RFC 6570)."""

from __future__ import annotations

import re

import pytest

from junebug.model.templates import EVENT_VARIABLES, MO_VARIABLES, check, expand, expand_message

VALUES = {"from": "+27 82", "to": "8000", "content": "a&b/é?", "message_id": "1f", "group": None, "reply_to": None}


@pytest.mark.parametrize(
    ("template", "url"),
    [
        ("http://host/in?a=%20b&c=1+2#x", "http://host/in?a=%20b&c=1+2#x"),
        ("http://host/{from}", "http://host/%2B27%2082"),
        ("http://host/sms?text={content}", "http://host/sms?text=a%26b%2F%C3%A9%3F"),
        ("http://host/sms{?from,to}", "http://host/sms?from=%2B27%2082&to=8000"),
        ("http://host/sms?x=1{&from,group,to}", "http://host/sms?x=1&from=%2B27%2082&to=8000"),
        ("http://host{/message_id}/in", "http://host/1f/in"),
        ("http://host/{+content}", "http://host/a&b/%C3%A9?"),
        ("http://host/{content:1}", "http://host/a"),
        ("http://host/[{reply_to}]", "http://host/[]"),
        ("http://me:secret@host:8080/{to}", "http://me:secret@host:8080/8000"),
    ],
)
def test_expansion(template: str, url: str) -> None:
    check(template, MO_VARIABLES)
    assert expand(template, VALUES) == url


@pytest.mark.parametrize(
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
