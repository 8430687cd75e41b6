"""A certificate of a CA of our own, for servers of tests that talk TLS."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

NAME = "server.example"


def made_in(directory: Path) -> None:
    """ca.pem, server.pem and server.key, which is of NAME."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl here to make certificates with")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *key, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")
    openssl("req", *key, "-subj", f"/CN={NAME}", "-keyout", "server.key", "-out", "server.csr")
    (directory / "names").write_text(f"subjectAltName=DNS:{NAME}")
    signed_by = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial")
    openssl("x509", "-req", "-in", "server.csr", *signed_by, "-extfile", "names", "-out", "server.pem")


def server_context(directory: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem", directory / "server.key")
    return context
