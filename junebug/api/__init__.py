"""The HTTP API (spec 1.7): `junebug.api.app` composes it; it never imports worker or supervisor, nor what a transport runs on."""
