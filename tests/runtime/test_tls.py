"""What is said of a file that is no certificate tells nothing of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from junebug.runtime.tls import TlsError, TlsOptions, current_context, tls_context
from tests import certificates


@pytest.mark.parametrize("option", ["ca_file", "certificate_file"])
def test_whatever_is_wrong_with_a_file_the_same_is_said(tmp_path: Path, option: str) -> None:
    (tmp_path / "text").write_text("a secret")
    (tmp_path / "empty").touch()
    (tmp_path / "directory").mkdir()
    (tmp_path / "broken").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (tmp_path / "closed").write_text("x")
    (tmp_path / "closed").chmod(0)
    told = set()
    for name in ("missing", "text", "empty", "directory", "broken", "closed", "missing/below", "text/below"):
        with pytest.raises(TlsError) as raised:
            tls_context(TlsOptions(**{option: str(tmp_path / name)}))
        told.add(str(raised.value).replace(str(tmp_path / name), "PATH"))
    assert len(told) == 1


def test_a_context_is_made_anew_when_a_file_has_changed(tmp_path: Path) -> None:
    certificates.made_in(tmp_path)
    ca = tmp_path / "ca.pem"
    options = TlsOptions(ca_file=str(ca))
    made = current_context(options)
    assert current_context(TlsOptions(ca_file=str(ca))) is made
    os.utime(ca, ns=(1, 1))
    assert current_context(options) is not made
    ca.write_text("none")
    with pytest.raises(TlsError):
        current_context(options)
