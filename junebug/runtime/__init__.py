"""What every process needs once: its event loop, pauses between attempts, a heartbeat, an ordered life."""
