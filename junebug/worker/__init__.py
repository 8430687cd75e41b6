"""One channel's process."""
