"""`junebug-smsc`, a simulated SMSC."""
