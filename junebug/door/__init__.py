"""HTTP from outside: where a channel of an HTTP type listens, and the one public port that such channels can share."""
