"""What is said of a file that is no certificate tells nothing of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from junebug.runtime.tls import TlsError, TlsOptions, tls_context


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
