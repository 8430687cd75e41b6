"""The plugins that come with Junebug, a folder each. They know junebug/plugin.py and what it tells them, and no other room."""
