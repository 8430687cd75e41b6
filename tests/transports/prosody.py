"""A real XMPP server, Debian's prosody, with a configuration and data of its own; and somebody with an account there."""

from __future__ import annotations

import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any, Self

import pytest
import slixmpp

from junebug.embedded import ServerProgram
from tests.polling import eventually
from tests.servers import Server, free_port

PROSODY = "/usr/bin/prosody"
DOMAIN = "localhost"
PASSWORD = "sesame-of-the-account"
CONFIG = """
run_as_root = true
pidfile = "{directory}/prosody.pid"
data_path = "{directory}/data"
certificates = "{directory}"
log = {{ info = "{directory}/prosody.log" }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
c2s_direct_tls_ports = {{ {tls_port} }}
s2s_ports = {{ }}
http_ports = {{ }}
https_ports = {{ }}
modules_enabled = {{ "roster", "saslauth", "tls", "disco", "ping", "offline" }}
modules_disabled = {{ "s2s" }}
authentication = "internal_plain"
c2s_require_encryption = {encrypted}
allow_unencrypted_plain_auth = {unencrypted}
ssl = {{ certificate = "{directory}/server.pem", key = "{directory}/server.key" }}
VirtualHost "{domain}"
"""


class Prosody(Server):
    """Accounts: bot, alice and bob at `localhost`."""

    def __init__(self, *, tls: bool = False) -> None:
        if not Path(PROSODY).exists():
            pytest.fail(f"there is no {PROSODY}: etc/install-system-packages tests installs it")
        super().__init__(free_port())
        self.tls_port = free_port()
        self.tls = tls
        self.authority = self.directory / "server.pem"
        accounts = self.directory / "data" / DOMAIN / "accounts"
        accounts.mkdir(parents=True)
        for name in ("bot", "alice", "bob"):
            (accounts / f"{name}.dat").write_text(f'return {{ ["password"] = "{PASSWORD}"; }};\n')
        certificate = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={DOMAIN}",
                       "-addext", f"subjectAltName=DNS:{DOMAIN}", "-keyout", "server.key", "-out", "server.pem")  # fmt: skip
        subprocess.run(("openssl", *certificate), cwd=self.directory, check=True, capture_output=True)
        (self.directory / "prosody.cfg.lua").write_text(CONFIG.format(
            directory=self.directory, port=self.port, tls_port=self.tls_port, domain=DOMAIN,
            encrypted=str(tls).lower(), unencrypted=str(not tls).lower(),
        ))  # fmt: skip

    def programs(self) -> tuple[ServerProgram, ...]:
        command = (PROSODY, "-F", "--config", str(self.directory / "prosody.cfg.lua"))
        return (ServerProgram("prosody", command, {}, priority=0),)

    def answers(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), 1) as link:
                link.sendall(f"<stream:stream to='{DOMAIN}' xmlns='jabber:client' "
                             "xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>".encode())  # fmt: skip
                link.settimeout(1)
                return b"stream:stream" in link.recv(2000)
        except OSError:
            return False

    def log(self) -> str:
        return (self.directory / "prosody.log").read_text()

    def config(self, **more: Any) -> dict[str, Any]:
        """Of a channel that is the account bot."""
        tls = {"ca_file": str(self.authority)} if self.tls else False
        return {
            "host": self.host, "port": self.port, "username": f"bot@{DOMAIN}", "password": PASSWORD, "tls": tls,
            "initial_reconnect_delay": 0.1, "max_reconnect_delay": 0.5, **more,
        }  # fmt: skip


class Person:
    """Somebody with an account of that server, at a client that shows all that came."""

    def __init__(self, server: Prosody, name: str) -> None:
        self.jid = f"{name}@{DOMAIN}"
        self.got: list[slixmpp.Message] = []
        self.presences: list[slixmpp.Presence] = []
        mechanisms = {f"unencrypted_{each}": True for each in ("plain", "scram")}
        plugins = {"feature_mechanisms": mechanisms, "xep_0184": {"auto_ack": True}}
        trusting = ssl.create_default_context(cafile=str(server.authority))
        self.client = slixmpp.ClientXMPP(self.jid, PASSWORD, plugin_config=plugins, ssl_context=trusting)
        self.client.enable_direct_tls, self.client.enable_starttls = False, server.tls
        self.client.enable_plaintext = not server.tls
        for plugin in ("xep_0030", "xep_0184"):
            self.client.register_plugin(plugin)
        self.client.add_event_handler("message", self.got.append)
        self.client.add_event_handler("presence", self.presences.append)
        self.client.add_event_handler("session_start", lambda _: self.client.send_presence())
        self._server = server

    async def __aenter__(self) -> Self:
        self.client.connect(self._server.host, self._server.port)
        await eventually(lambda: any(each["from"].bare == self.jid for each in self.presences), what="a login")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.disconnect(1.0)
        self.client.cancel_connection_attempt()
        self.client._run_out_filters.cancel()

    async def hears(self, text: str) -> slixmpp.Message:
        def heard() -> slixmpp.Message | None:
            return next((each for each in self.got if each["body"] == text), None)

        found: slixmpp.Message = await eventually(heard, what=f"{text!r} among {[each['body'] for each in self.got]}")
        return found

    def say(self, to: str, text: str, kind: Any = "chat") -> None:
        self.client.send_message(mto=to, mbody=text, mtype=kind)

    async def sees(self, kind: str, sender: str) -> slixmpp.Presence:
        def seen() -> slixmpp.Presence | None:
            return next((each for each in self.presences if (each["type"], each["from"].bare) == (kind, sender)), None)

        found: slixmpp.Presence = await eventually(seen, what=f"{kind} of {sender} among {self.presences}")
        return found


