"""nginx's own word: whether its configuration is right, and the reload. Each run is bounded."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence

from junebug.errors import PluginError

SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where Debian has nginx; not in everybody's PATH."""
LONGEST_ERROR = 500
_STAMP = re.compile(r"^(?:nginx: )?(?:[\d/]+ [\d:]+ )?(\[\w+\] )(?:\d+#\d+: )?")
"""`nginx: [emerg] ` on the terminal, `2026/11/26 16:55:50 [emerg] 20055#20055: ` in the log, which may be the terminal."""


class NginxCommand:
    """`nginx_command` of the options, with arguments. `time_left` is in seconds, for all runs of one `begin`."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._ends = 0.0

    def begin(self, seconds: float) -> None:
        """Raises PluginError when nginx is not installed."""
        self._ends = time.monotonic() + seconds
        if self._found() is None:
            raise PluginError(f"nginx is not installed: there is no {self._command[0]!r}; no channel is exposed")

    def refusal(self) -> str | None:
        """What nginx says against its configuration as it is on disk (nginx -t); None when it is right."""
        return self._run("-t")

    def reload(self) -> str | None:
        """Have it serve what is on disk: requests in flight are finished. What it says when it cannot."""
        return self._run("-s", "reload")

    def _found(self) -> str | None:
        return shutil.which(self._command[0], path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")

    def _run(self, *arguments: str) -> str | None:
        line = [self._found() or self._command[0], *self._command[1:], *arguments]
        try:
            done = subprocess.run(
                line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                timeout=max(0.1, self._ends - time.monotonic()),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"nginx {' '.join(arguments)} does not end"
        except OSError as error:
            return f"nginx cannot be run: {error.strerror}"
        return None if done.returncode == 0 else _shortened(done.stdout.decode(errors="replace")) or "nginx says nothing"


def _shortened(output: str) -> str:
    """The lines that say what is wrong, or all where none seems to: the same fault gives the same text."""
    lines = [_STAMP.sub(r"\1", line.strip()) for line in output.splitlines() if line.strip()]
    wrong = [line for line in lines if line.startswith(("[emerg]", "[alert]", "[crit]", "[error]"))]
    return " | ".join(dict.fromkeys(wrong or lines))[:LONGEST_ERROR]
