"""What a channel's process prints, which is what it says of a crash: kept in a small log of its own."""

from __future__ import annotations

from pathlib import Path

from supervisor import events
from supervisor.dispatchers import PDispatcher

from junebug.config.declaration import Settings

CRASH_LOG_SIZE = 100_000


def crash_log(settings: Settings, channel: str) -> Path:
    """What a channel's processes printed; the one before it has `.1` appended."""
    return settings.log_dir / f"channel-{channel}.log"


class CrashOutput(PDispatcher):  # type: ignore[misc]
    """Appends what comes out of a pipe to the process's log file, opened only then."""

    event_type = events.ProcessLogStdoutEvent

    def readable(self) -> bool:
        return not self.closed

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        data = self.process.config.options.readfd(self.fd)
        if not data:
            self.close()
            return
        try:
            self._append(Path(self.process.config.stdout_logfile), data)
        except OSError as error:  # a full disk loses the text, never the channel
            self.process.config.options.logger.warn(f"cannot write {self.process.config.stdout_logfile}: {error}")

    def _append(self, path: Path, data: bytes) -> None:
        with path.open("ab") as file:
            file.write(data)
            size = file.tell()
        if size > CRASH_LOG_SIZE:
            path.replace(path.with_name(f"{path.name}.1"))

    def removelogs(self) -> None:
        """supervisorctl clear."""
        Path(self.process.config.stdout_logfile).unlink(missing_ok=True)

    def reopenlogs(self) -> None:
        """Nothing is kept open."""
