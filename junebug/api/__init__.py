"""The HTTP API (spec 1.7): `junebug.api.app` composes it; it uses the root modules only, never worker or supervisor."""
