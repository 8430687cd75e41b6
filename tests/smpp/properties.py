"""Hypothesis as the property tests use it: the same on every run, however slow the machine is, and no files in the checkout."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

__all__ = ["given", "settings", "st"]

set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "junebug-hypothesis")
settings.register_profile(
    "junebug", deadline=None, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("junebug")
