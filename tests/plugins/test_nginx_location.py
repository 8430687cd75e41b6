"""What a channel's config may say of where it is exposed: nothing of it becomes a directive of nginx."""

from __future__ import annotations

from typing import Any

import pytest

from junebug.errors import PluginError
from junebug.plugins.nginx.location import Location, location_of
from tests.tables import rows

HOSTILE = (
    "/a;", "/a; return 200", "/a { } location /b", "/a}", "/a\n", "/a\nreturn 200;", "/a\r\n", "/\u2028", "/a b", "/a\tb",
    "/$host", "/${document_root}", '/"a"', "/'a'", "/\\a", "/a#b", "/%2e%2e/", "/%(external_path)s", "/a?b", "/a|b", "/é", "/٣",
    "/..", "/../a", "/a/..", "/a/../b", "/a/./b", "/.", "/a//b", "/a\0", "/" + "a" * 500, "/`id`", "/<a>", "/a(b)", "/^a", "/a&b",
)  # fmt: skip
"""Paths that would be directives, variables, comments or other paths; none is exposed."""

ODD = "/~a/=b/@c.d_e-f!*+,:"


@rows(
    ("config", "expected"),
    [
        ({}, None),
        ({"web_path": "/a"}, None),
        ({"web_port": 9001}, None),
        ({"web_path": None, "web_port": None}, None),
        ({"twisted_endpoint": "tcp:9001"}, None),
        ({"web_path": "/a", "web_port": 9001}, Location("/a", "/a", 9001)),
        ({"web_path": "a/b", "web_port": 9001}, Location("/a/b", "/a/b", 9001)),
        ({"web_path": "//a", "web_port": 9001}, Location("/a", "/a", 9001)),
        ({"web_path": "/a/", "web_port": "9001"}, Location("/a/", "/a/", 9001)),
        ({"web_path": "/", "web_port": 9001}, Location("/", "/", 9001)),
        ({"web_path": "", "web_port": 9001}, Location("/", "/", 9001)),
        ({"web_path": ODD, "web_port": 1}, Location(ODD, ODD, 1)),
        ({"web_path": "/a", "web_port": 1, "public_http": {}}, Location("/a", "/a", 1)),
        ({"web_path": "/a", "web_port": 1, "public_http": None}, Location("/a", "/a", 1)),
        ({"web_path": "/a", "web_port": 1, "public_http": {"enabled": True}}, Location("/a", "/a", 1)),
        ({"web_path": "/a", "web_port": 1, "public_http": {"enabled": None}}, Location("/a", "/a", 1)),
        ({"web_path": "/a", "web_port": 1, "public_http": {"enabled": False}}, None),
        ({"web_path": "/a;}", "web_port": 1, "public_http": {"enabled": False}}, None),
        ({"web_path": "/a", "web_port": 1, "public_http": {"web_path": "b"}}, Location("/b", "/a", 1)),
        ({"web_path": "/a", "web_port": 1, "public_http": {"web_port": 2}}, Location("/a", "/a", 2)),
        ({"public_http": {"web_path": "b", "web_port": 2}}, Location("/b", "/b", 2)),
        ({"web_port": 1, "public_http": {"web_path": "/b"}}, Location("/b", "/b", 1)),
    ],
)
def test_what_is_exposed(config: dict[str, Any], expected: Location | None) -> None:
    assert location_of(config) == expected


@rows(
    ("beside", "within", "expected"),
    [
        (None, None, Location("/a", "/a", 1)),
        ({"enabled": False}, None, None),
        ({"enabled": False}, {"web_path": "/b"}, None),
        ({"enabled": False}, {"enabled": True}, Location("/a", "/a", 1)),
        ({"enabled": False}, {"enabled": None}, None),
        ({"web_path": "/b", "web_port": 2}, {"web_path": "/c"}, Location("/c", "/a", 2)),
    ],
)
def test_public_http_beside_the_config_is_the_default_of_that_within(beside: Any, within: Any, expected: Location | None) -> None:
    assert location_of({"web_path": "/a", "web_port": 1, "public_http": within}, beside) == expected


@rows("beside", ["off", [], False, 0])
def test_a_public_http_beside_the_config_that_is_no_object_exposes_nothing(beside: Any) -> None:
    with pytest.raises(PluginError, match="^public_http: "):
        location_of({"web_path": "/a", "web_port": 1}, beside)


@rows(
    ("external", "internal", "variables"),
    [
        ("/a", "/a", ("/a", "http://127.0.0.1:9/a", "/a/", "http://127.0.0.1:9/a/")),
        ("/a/", "/a/", ("/a/", "http://127.0.0.1:9/a/", "/a/", "http://127.0.0.1:9/a/")),
        ("/b", "/a/", ("/b", "http://127.0.0.1:9/a/", "/b/", "http://127.0.0.1:9/a/")),
        ("/b/", "/a", ("/b/", "http://127.0.0.1:9/a", "/b/", "http://127.0.0.1:9/a/")),
        ("/", "/", ("/", "http://127.0.0.1:9/", "/", "http://127.0.0.1:9/")),
    ],
)
def test_the_variables_of_a_template(external: str, internal: str, variables: tuple[str, ...]) -> None:
    found = Location(external, internal, 9).variables
    assert tuple(found[name] for name in ("external_path", "internal_url", "external_prefix", "internal_prefix_url")) == variables


@rows("path", HOSTILE)
@rows("where", ["web_path", "public_http.web_path", "web_path behind public_http.web_path"])
def test_a_hostile_path_is_not_exposed(path: str, where: str) -> None:
    if where == "web_path":
        config: dict[str, Any] = {"web_path": path, "web_port": 1}
    elif where == "public_http.web_path":
        config = {"web_path": "/a", "web_port": 1, "public_http": {"web_path": path}}
    else:
        config = {"web_path": path, "web_port": 1, "public_http": {"web_path": "/a"}}
    with pytest.raises(PluginError) as raised:
        location_of(config)
    assert str(raised.value).startswith(f"{where.split()[0]}: ")
    assert path not in str(raised.value) or len(path) < 4


@rows(
    ("config", "named"),
    [
        ({"web_path": 1, "web_port": 1}, "web_path"),
        ({"web_path": ["/a"], "web_port": 1}, "web_path"),
        *(({"web_path": "/a", "web_port": port}, "web_port") for port in
          (0, -1, 65536, 10**30, True, 1.5, "", "80; }", "8 0", "٣", "1e3", "-1", [80], {})),
        ({"web_path": "/a", "web_port": 1, "public_http": {"web_port": 0}}, "public_http.web_port"),
        ({"web_path": "/a", "web_port": 1, "public_http": {"web_path": 0}}, "public_http.web_path"),
        ({"web_path": "/a", "web_port": 1, "public_http": {"enabled": "false"}}, "public_http.enabled"),
        ({"web_path": "/a", "web_port": 1, "public_http": {"enabled": 0}}, "public_http.enabled"),
        ({"web_path": "/a", "web_port": 1, "public_http": False}, "public_http"),
        ({"web_path": "/a", "web_port": 1, "public_http": "no"}, "public_http"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_and_exposes_nothing(config: dict[str, Any], named: str) -> None:
    with pytest.raises(PluginError, match=rf"^{named}: "):
        location_of(config)
