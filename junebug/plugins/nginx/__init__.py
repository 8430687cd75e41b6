"""nginx: a virtual host that exposes HTTP channels to the world (spec 1.9.4; docs/plugins.md).

    plugin.py     NginxPlugin: its options, which channels it exposes, what it writes when
    location.py   what a channel's config says of where it is to be seen: the one place that judges it
    command.py    nginx itself: is its configuration right, and the reload
    *.conf        the templates that are used where the options name no others
"""

from junebug.plugins.nginx.plugin import NginxPlugin

__all__ = ["NginxPlugin"]
