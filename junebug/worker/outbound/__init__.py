"""MT: from the queue to the transport."""
