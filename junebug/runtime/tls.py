"""TLS as a client: what a channel's config says of it, the context made of that, and what went wrong in words."""

from __future__ import annotations

import functools
import os
import ssl
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class TlsOptions:
    """Files are paths of PEM files. `verify` off: any certificate of the peer's is taken."""

    server_name: str | None = None
    """Name to ask for (SNI) and to find in the certificate, where it is not the host's."""
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    key_passphrase: str | None = field(default=None, repr=False)
    verify: bool = True

    @classmethod
    def from_config(cls, option: bool | dict[str, Any] | None) -> Self | None:
        """What a channel's option `tls` says: true, or an object of these; None: no TLS."""
        return cls(**option) if isinstance(option, dict) else cls() if option else None


_NO_PEM = "it is no PEM file of certificates that Junebug may read"
"""Whatever is wrong: who may set a path is not to learn from it which files there are, and what is in them."""


class TlsError(Exception):
    """A certificate or key file cannot be used; the message names the option and the file."""


def tls_context(options: TlsOptions) -> ssl.SSLContext:
    """What to talk TLS with, as a client. Raises TlsError."""
    context = ssl.create_default_context()
    if options.ca_file:
        try:
            context.load_verify_locations(options.ca_file)
        except (OSError, ValueError):
            raise TlsError(f"ca_file: cannot use {options.ca_file}: {_NO_PEM}") from None
    if options.certificate_file:
        # without a callback OpenSSL would ask for the passphrase on the terminal
        passphrase = options.key_passphrase or ""
        try:
            context.load_cert_chain(options.certificate_file, options.key_file, password=lambda: passphrase)
        except (OSError, ValueError):
            files = " and ".join(filter(None, (options.certificate_file, options.key_file)))
            raise TlsError(f"certificate_file, key_file: cannot use {files}: {_NO_PEM}, or not its key and passphrase") from None
    if not options.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def current_context(options: TlsOptions) -> ssl.SSLContext:
    """The same, made anew only when one of the files is another: it takes up to 0.1 s. Raises TlsError."""
    files = (options.ca_file, options.certificate_file, options.key_file)
    return _made(options, tuple(_changed_at(each) for each in files))


@functools.lru_cache(8)
def _made(options: TlsOptions, changed_at: tuple[int, ...]) -> ssl.SSLContext:
    return tls_context(options)


def _changed_at(file: str | None) -> int:
    try:
        return os.stat(file).st_mtime_ns if file else 0
    except (OSError, ValueError):
        return 0  # tls_context says so


def reason_of(error: Exception) -> str:
    """Why a connection could not be made, or a file not be used."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)  # asyncio's own text repeats the address
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
