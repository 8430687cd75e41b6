"""SMPP 3.4, the protocol: it knows no channel."""
