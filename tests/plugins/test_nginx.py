"""The nginx plugin beside a real nginx: what it writes, what nginx makes of it, and what is taken back."""

from __future__ import annotations

import http.client
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from junebug.config.declaration import Settings
from junebug.errors import PluginError
from junebug.model.spec import ChannelSpec
from junebug.plugins.nginx import NginxPlugin, plugin
from junebug.plugins.nginx.plugin import MARK, Options
from tests.nginx_server import SERVER_NAME, NginxServer
from tests.polling import eventually_blocking
from tests.tables import rows

NOBODYS, NOT_FOUND = 418, 404


class Upstream(BaseHTTPRequestHandler):
    """A channel's server: it says which path and which headers it was asked for."""

    def do_GET(self) -> None:
        body = f"{self.path} {self.headers['Host']} {self.headers['X-Forwarded-For']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def upstream() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture
def nginx() -> Iterator[NginxServer]:
    server = NginxServer()
    server.start()
    yield server
    server.destroy()


class Plugin:
    """One that was started, as its runner calls it."""

    def __init__(self, nginx: NginxServer, port: int = 0, **options: Any) -> None:
        self.nginx, self.port = nginx, port
        self.it = NginxPlugin()
        self.it.start_plugin(nginx.plugin_config(**options), Settings())

    def start(self, channel: str, path: str = "", **config: Any) -> None:
        """Its path is its id, unless another is given."""
        whole = {"web_path": path or f"/{channel}", "web_port": self.port, **config}
        self.it.channel_started(ChannelSpec(id=channel, type="web", config=whole))

    def stop(self, channel: str) -> None:
        self.it.channel_stopped(ChannelSpec(id=channel, type="web", config={}))

    def settle(self) -> str:
        """What it could not do; empty when all is well."""
        try:
            self.it.settled()
        except PluginError as error:
            return str(error)
        return ""

    def serve(self) -> None:
        """It has something to do, and that is done: workers of before the reload are gone."""
        before = self.nginx.workers()
        assert self.settle() == ""
        eventually_blocking(lambda: (now := self.nginx.workers()) and not now & before, 10, "other workers")

    def ask(self, path: str, host: str = SERVER_NAME) -> tuple[int, str]:
        """Status and body."""
        link = http.client.HTTPConnection("127.0.0.1", self.nginx.port, timeout=10)
        try:
            link.request("GET", path, headers={"Host": host})
            answer = link.getresponse()
            return answer.status, answer.read().decode()
        finally:
            link.close()

    def becomes(self, path: str, status: int) -> str:
        """The body, once it is that: a reload takes a moment."""
        return eventually_blocking(lambda: (got := self.ask(path))[0] == status and (got[1] or "-"), 10, f"{path}: {status}")

    def texts(self) -> dict[str, str]:
        """What is in every file that it may have written."""
        paths = [self.nginx.vhost_file, *self.nginx.locations_dir.glob("*")]
        return {path.name: path.read_text() for path in paths if path.exists()}


@pytest.fixture
def made(nginx: NginxServer, upstream: int) -> Plugin:
    return Plugin(nginx, upstream)


def test_channels_are_seen_at_their_paths_and_nowhere_else(made: Plugin, upstream: int) -> None:
    made.start("a")
    made.start("b", "no/slash")
    made.start("hidden", "/ab", public_http={"enabled": False})
    made.start("own", "/inside", public_http={"web_path": "/outside"})
    made.start("telnet", "", web_path=None, web_port=None)
    made.serve()
    assert made.becomes("/a", 200) == f"/a {SERVER_NAME} 127.0.0.1"
    assert made.becomes("/no/slash?q=%C3%A9;", 200).split()[0] == "/no/slash?q=%C3%A9;"
    assert made.ask("/a/health")[1].split()[0] == "/a/health"
    assert made.ask("/outside")[1].split()[0] == "/inside"
    assert [made.ask(path)[0] for path in ("/ab", "/inside", "/", "/a%2f..%2fab", "/x/../ab")] == [NOT_FOUND] * 5
    assert made.ask("/a", host="other.example.com")[0] == NOBODYS
    assert made.nginx.location_files() == {"a.conf", "b.conf", "own.conf"}
    assert stat.S_IMODE(made.nginx.vhost_file.stat().st_mode) & 0o044 == 0o044 & ~_umask()


def _umask() -> int:
    os.umask(mask := os.umask(0o022))
    return mask


def test_a_change_and_a_removal_show(made: Plugin) -> None:
    made.start("a")
    made.start("b")
    made.serve()
    made.becomes("/a", 200)
    made.stop("a")
    made.start("a", "/elsewhere")
    made.stop("b")
    made.serve()
    made.becomes("/elsewhere", 200)
    assert [made.ask(path)[0] for path in ("/a", "/b")] == [NOT_FOUND] * 2
    assert made.nginx.location_files() == {"a.conf"}


def test_what_an_earlier_junebug_left_is_put_right(made: Plugin) -> None:
    made.start("a")
    made.start("gone")
    made.serve()
    theirs = made.nginx.locations_dir / "theirs.conf"
    theirs.write_text("location = /theirs { return 204; }\n")
    made.nginx.vhost_file.write_text(f"{MARK} but changed\n")
    again = Plugin(made.nginx, made.port)
    again.start("a", "/new")
    again.serve()
    again.becomes("/new", 200)
    assert again.nginx.location_files() == {"a.conf", "theirs.conf"}
    assert [again.ask(path)[0] for path in ("/gone", "/a", "/theirs")] == [NOT_FOUND, NOT_FOUND, 204]
    again.it.stop_plugin()
    eventually_blocking(lambda: again.ask("/new")[0] == NOBODYS)
    assert not again.nginx.vhost_file.exists()
    assert again.nginx.location_files() == {"theirs.conf"}


def test_nothing_is_reloaded_while_nothing_changes(made: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    made.start("a")
    made.serve()
    idle = type("Idle", (), {"begin": lambda *_: None})()  # whoever asked more of it would fail
    monkeypatch.setattr(made.it, "_nginx", idle)
    made.stop("a")
    made.start("a")
    assert made.settle() == ""


def test_two_channels_cannot_have_one_path_and_the_second_gets_it_when_it_is_free(made: Plugin) -> None:
    made.start("a", "/same")
    made.start("b", "/same/")
    made.start("c")
    assert made.settle() == "channel b is not exposed: /same/ is channel a's already"
    made.becomes("/c", 200)
    assert made.nginx.location_files() == {"a.conf", "c.conf"}
    made.stop("a")
    made.serve()
    assert made.nginx.location_files() == {"b.conf", "c.conf"}


def test_a_channel_whose_config_is_wrong_is_not_exposed_any_more(made: Plugin) -> None:
    made.start("a")
    made.serve()
    made.becomes("/a", 200)
    with pytest.raises(PluginError, match="^web_path: "):
        made.start("a", "/a { } location /b")
    made.serve()
    made.becomes("/a", NOT_FOUND)
    assert made.nginx.location_files() == set()


def test_what_nginx_refuses_of_one_channel_is_shown_and_taken_back(nginx: NginxServer, upstream: int, short_dir: Path) -> None:
    template = short_dir / "location"
    template.write_text("if_%(external_path)s { }")  # no directive that nginx knows
    good = Plugin(nginx, upstream)
    good.start("a")
    good.serve()
    good.becomes("/a", 200)
    before = good.texts()
    bad = Plugin(nginx, upstream, location_template=str(template))
    bad.start("a", "/a")
    bad.start("b", "/b")
    told = bad.settle()
    assert "channel a: nginx refuses its location, which is taken back: " in told
    assert "channel b: nginx refuses" in told
    assert 'unknown directive "if_/b"' in told
    assert bad.texts() == before
    bad.becomes("/a", 200)
    assert nginx.location_files() == {"a.conf"}
    assert told == bad.settle()


def test_only_the_channel_that_is_refused_stays_out(nginx: NginxServer, upstream: int, short_dir: Path) -> None:
    template = short_dir / "location"
    template.write_text("location %(external_path)s { proxy_pass %(internal_url)s; } location /taken%(external_path)s { }")
    made = Plugin(nginx, upstream, location_template=str(template))
    made.start("a")
    made.start("b", "/taken/a")
    made.start("c")
    told = made.settle()
    assert told.startswith("channel b: nginx refuses its location, which is taken back: ")
    assert 'duplicate location "/taken/a"' in told
    made.becomes("/a", 200)
    made.becomes("/c", 200)
    assert nginx.location_files() == {"a.conf", "c.conf"}


def test_a_vhost_that_nginx_refuses_is_taken_back_with_all_that_came_with_it(
    nginx: NginxServer, upstream: int, short_dir: Path
) -> None:
    good = Plugin(nginx, upstream)
    good.start("a")
    good.serve()
    before = good.texts()
    template = short_dir / "vhost"
    template.write_text("server { listen_to %(server_name)s; include %(includes)s; }")
    bad = Plugin(nginx, upstream, vhost_template=str(template))
    bad.start("a", "/new")
    bad.start("b")
    told = bad.settle()
    assert told.startswith("nginx refuses its configuration, what was changed is taken back: ")
    assert 'unknown directive "listen_to"' in told
    assert bad.texts() == before
    bad.becomes("/a", 200)


def test_a_fault_elsewhere_in_nginx_is_shown_and_when_it_is_mended_all_is_done(made: Plugin) -> None:
    made.start("a")
    made.serve()
    elsewhere = made.nginx.vhost_file.with_name("elsewhere.conf")
    elsewhere.write_text("server { nonsense; }")
    made.start("b")
    told = made.settle()
    assert str(elsewhere) in told
    assert 'unknown directive "nonsense"' in told
    assert made.nginx.location_files() == {"a.conf"}
    elsewhere.unlink()
    made.serve()
    made.becomes("/b", 200)


def test_nginx_that_is_not_installed_is_told_and_nothing_is_written(nginx: NginxServer, upstream: int) -> None:
    made = Plugin(nginx, upstream, nginx_command="/no/such/nginx -c x")
    made.start("a")
    assert made.settle() == "nginx is not installed: there is no '/no/such/nginx'; no channel is exposed"
    assert made.texts() == {}
    made.it.stop_plugin()


def test_nginx_that_does_not_run_is_told_and_later_reads_what_is_there(made: Plugin) -> None:
    made.nginx.kill()
    made.start("a")
    assert made.settle().startswith("nginx does not reload: ")
    assert made.nginx.location_files() == {"a.conf"}
    made.nginx.start()
    made.becomes("/a", 200)
    made.serve()


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("exec sleep 60", "nginx refuses its configuration, what was changed is taken back: nginx -t does not end"),
        ("head -c 100000 /dev/zero | tr '\\0' x; exit 1", "taken back: " + "x" * 500),
        ("exit 1", "nginx says nothing"),
    ],
)
def test_an_nginx_that_hangs_or_babbles_is_bounded(
    nginx: NginxServer, upstream: int, short_dir: Path, script: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin, "TIME", 0.5)
    command = short_dir / "nginx"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    made = Plugin(nginx, upstream, nginx_command=str(command))
    made.start("a")
    found = made.settle()
    assert told in found
    assert len(found) < 600
    assert made.texts() == {}


@pytest.mark.skipif(os.getuid() != 0, reason="takes root to become somebody without rights")
def test_without_the_right_to_write_it_says_where(made: Plugin) -> None:
    made.start("a")
    os.chmod(made.nginx.directory, 0o755)
    os.seteuid(65534)
    try:
        assert f"cannot make {made.nginx.locations_dir}: Permission denied" in made.settle()
        os.seteuid(0)
        made.nginx.locations_dir.mkdir(parents=True)
        os.seteuid(65534)
        assert "Permission denied; Junebug's user needs the right to" in made.settle()
    finally:
        os.seteuid(0)
    assert made.texts() == {}


def test_a_vhost_file_that_is_a_link_stays_one(nginx: NginxServer, upstream: int) -> None:
    available = nginx.directory / "available.conf"
    nginx.vhost_file.symlink_to(available)
    made = Plugin(nginx, upstream)
    made.start("a")
    made.serve()
    assert nginx.vhost_file.is_symlink()
    assert available.read_text().startswith(MARK)
    made.becomes("/a", 200)


def test_templates_of_0_1_11_work(nginx: NginxServer, upstream: int, short_dir: Path) -> None:
    """With the variables that its own had."""
    vhost, location = short_dir / "vhost", short_dir / "location"
    vhost.write_text(f"server {{\n listen 127.0.0.1:{nginx.port};\n server_name %(server_name)s;\n include %(includes)s;\n}}\n")
    location.write_text("location %(external_path)s {\n proxy_pass %(internal_url)s;\n add_header X-Percent 100%%;\n}\n")
    made = Plugin(nginx, upstream, vhost_template=str(vhost), location_template=str(location))
    made.start("a")
    made.serve()
    assert made.becomes("/a", 200).split()[0] == "/a"


def test_without_a_server_name_it_is_nobodys_name(nginx: NginxServer, upstream: int) -> None:
    made = Plugin(nginx, upstream, server_name=None)
    made.start("a")
    made.serve()
    assert "server_name _;" in made.texts()["junebug.conf"]


@rows(
    ("options", "told"),
    [
        ({"vhost": "x"}, "vhost: there is no such option; known are vhost_file, locations_dir, server_name, "),
        ({"server_name": 5}, "server_name: expected a text"),
        ({"locations_dir": ""}, "locations_dir: expected a text"),
        ({"locations_dir": "/a b/"}, "locations_dir: nginx reads no path with blanks"),
        ({"nginx_command": "nginx 'x"}, "nginx_command: "),
        ({"nginx_command": " "}, "nginx_command: expected a command"),
        ({"vhost_template": "/no/such"}, "vhost_template: cannot read /no/such: No such file or directory"),
        ({"location_template": "/"}, "location_template: cannot read /: Is a directory"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], told: str) -> None:
    with pytest.raises(PluginError) as raised:
        NginxPlugin().start_plugin({"type": "x", **options}, Settings())
    assert str(raised.value).startswith(told)


@rows("text", ["%(host)s", "100% sure", "%", "%(external_path)", "%(external_path)d"])
@rows("option", ["vhost_template", "location_template"])
def test_a_template_that_cannot_be_filled_is_named(text: str, option: str, short_dir: Path) -> None:
    template = short_dir / "template"
    template.write_text(text)
    told = rf"^{option}: {template} has '%.*', which is none of %.*; a percent sign is written %%$"
    with pytest.raises(PluginError, match=told):
        NginxPlugin().start_plugin({"type": "x", option: str(template)}, Settings())


def test_the_options_are_those_of_the_specification() -> None:
    found = {entry.name: getattr(Options(), entry.name) for entry in fields(Options)}
    assert found.pop("nginx_command") == "nginx"  # ours
    assert Path(found.pop("vhost_template")).name == "vhost_template.conf"
    assert Path(found.pop("location_template")).name == "location_template.conf"
    assert found == {
        "vhost_file": "/etc/nginx/sites-enabled/junebug.conf",
        "locations_dir": "/etc/nginx/includes/junebug/",
        "server_name": None,
    }
