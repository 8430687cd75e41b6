"""A private nginx (Debian's) for the nginx plugin: its own directory, pid file and ports. No test touches a system's."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from pathlib import Path
from typing import Any

from junebug.embedded import ServerProgram
from junebug.plugins.nginx.command import SYSTEM_PATH
from junebug.plugins.nginx.plugin import Options
from tests.servers import Server, free_port

CONFIG = """\
{user}
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {directory}/tmp;
    proxy_temp_path {directory}/tmp;
    fastcgi_temp_path {directory}/tmp;
    uwsgi_temp_path {directory}/tmp;
    scgi_temp_path {directory}/tmp;
    server {{ listen 127.0.0.1:{port} default_server; location = /alive {{ return 204; }} location / {{ return 418; }} }}
    include {directory}/sites-enabled/*;
}}
"""
SERVER_NAME = "messages.example.com"


class NginxServer(Server):
    """`port` is its own and the virtual host's, which is told by the Host header; what is nobody's gets a 418."""

    def __init__(self, directory: Path | None = None) -> None:
        super().__init__(free_port(), directory)
        self.config_file = self.directory / "nginx.conf"
        self.vhost_file = self.directory / "sites-enabled" / "junebug.conf"
        self.locations_dir = self.directory / "includes" / "junebug"
        self.vhost_file.parent.mkdir()
        user = "user root;" if os.getuid() == 0 else ""
        self.config_file.write_text(CONFIG.format(directory=self.directory, port=self.port, user=user))

    def programs(self) -> tuple[ServerProgram, ...]:
        nginx = shutil.which("nginx", path=SYSTEM_PATH)
        assert nginx, "nginx is not installed: run etc/install-system-packages tests"
        command = (nginx, "-p", str(self.directory), "-c", str(self.config_file))
        return (ServerProgram("nginx", command, {}, priority=0),)

    def answers(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), 1) as link:
                link.settimeout(1)
                link.sendall(b"GET /alive HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                return link.recv(64).startswith(b"HTTP/1.1 204")
        except OSError:
            return False

    def workers(self) -> set[int]:
        (master,) = self._processes
        return {int(pid) for pid in Path(f"/proc/{master.pid}/task/{master.pid}/children").read_text().split()}

    def kill(self) -> None:
        """Its workers, too, which do not end with it."""
        for process in self._processes:
            os.killpg(process.pid, signal.SIGKILL)
        super().kill()

    def plugin_config(self, **options: Any) -> dict[str, Any]:
        """The plugin's options for this nginx: the templates that come with it, but for the standard port."""
        template = self.directory / "vhost_template.conf"
        text = Path(Options().vhost_template).read_text()
        assert "listen 80;" in text
        template.write_text(text.replace("listen 80;", f"listen {self.host}:{self.port};"))
        return {
            "type": "junebug.plugins.nginx.NginxPlugin",
            "vhost_file": str(self.vhost_file),
            "locations_dir": str(self.locations_dir),
            "server_name": SERVER_NAME,
            "vhost_template": str(template),
            "nginx_command": f"nginx -p {self.directory} -c {self.config_file}",
            **options,
        }

    def location_files(self) -> set[str]:
        """Names of what is in locations_dir, drafts included."""
        return {path.name for path in self.locations_dir.iterdir()} if self.locations_dir.exists() else set()
