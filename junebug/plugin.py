"""JunebugPlugin: base of plugins, code of yours that hears when channels start and stop (spec 1.9).

Derive a class from it and name that in the settings: `plugins: [{type: "package.Class", ...}]`. Methods may be plain or
coroutines. supervisor/plugin_runner.py calls them, in the reconciler's process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from junebug.config.declaration import Settings
    from junebug.model.spec import ChannelSpec


class JunebugPlugin:
    """Base of all plugins: override what you need."""

    def start_plugin(self, config: dict[str, Any], junebug_config: Settings) -> Any:
        """Called once, before anything else. `config`: the plugin's own object from the settings."""

    def stop_plugin(self) -> Any:
        """Called when Junebug stops."""

    def channel_started(self, channel: ChannelSpec) -> Any:
        """A channel's process runs; called for every channel when Junebug (or its reconciler) starts."""

    def channel_stopped(self, channel: ChannelSpec) -> Any:
        """A channel was stopped on purpose or deleted; a change of its config is a stop and a start."""

    def settled(self) -> Any:
        """Called when there was no call for a second (or some in a row for five), and at the start when all channels that run
        were told: what is costly, and may be done for many channels at once. One that raises is called again.
        """
