"""Which client this is, by itself: a build reads it without httpx."""

VERSION = "1.0.0"
