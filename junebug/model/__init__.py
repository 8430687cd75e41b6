"""What is talked about, pure: messages, events, statuses, channel specs, callbacks."""
