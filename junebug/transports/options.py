"""Options that several channel types have in common, as parts of their JSON Schemas."""

from typing import Any

TEN_YEARS = 315_360_000
"""In seconds: longer times are mistakes, and not every clock takes them."""


def text(description: str, default: str | None = None, **schema: Any) -> dict[str, Any]:
    """`default` None: there is none."""
    return {"type": "string"} | schema | ({} if default is None else {"default": default}) | {"description": description}


def flag(description: str, default: bool) -> dict[str, Any]:
    return {"type": "boolean", "default": default, "description": description}


def whole(description: str, default: int, minimum: int, maximum: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": minimum, "maximum": maximum, "default": default, "description": description}


def seconds(description: str, default: float, minimum: float = 0) -> dict[str, Any]:
    return {"type": "number", "minimum": minimum, "maximum": TEN_YEARS, "default": default, "description": description}


TLS_OPTIONS: dict[str, Any] = {
    "server_name": text("Name to ask for (SNI) and to find in the certificate, where it is not the host's."),
    "ca_file": text("PEM file of the authorities to trust; else the system's."),
    "certificate_file": text("PEM file of our certificate."),
    "key_file": text("PEM file of its key, where not in certificate_file."),
    "key_passphrase": text("What key_file is encrypted with."),
    "verify": flag("Whether the server's certificate must be trusted and fit its name.", True),
}
"""As runtime/tls.py takes them. `tls.key_passphrase` is a secret of each type that has them."""

RECONNECT_OPTIONS: dict[str, Any] = {
    "initial_reconnect_delay": seconds("Pause before the first attempt to connect again; later ones grow.", 1),
    "max_reconnect_delay": seconds("The longest such pause.", 60),
}

ON_UNKNOWN: dict[str, Any] = {
    "enum": ["resend", "fail"],
    "default": "resend",
    "description": "A message of which nobody knows whether it arrived: send it again (it may arrive twice), or report it "
    "as rejected (it may have arrived).",
}
