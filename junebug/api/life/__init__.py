"""The life of a message: what is known of it, from logs and stores, as one list; where it is now, and why."""
