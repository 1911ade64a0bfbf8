"""A test whose machine lacks something is skipped at home. It fails where CI is set."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

from fleet.errors import InvalidConfig
from fleet.local.model import find_weights
from fleet.sandbox import Mode
from fleet.sandbox.isolation import why_not


def missing(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def need_weights() -> None:
    """The weights of the local model."""
    try:
        find_weights()
    except InvalidConfig as error:
        missing(str(error))


def need_isolation(mode: Mode) -> None:
    """A way to isolate code. Root cannot use bare limits: those tests are skipped in CI too."""
    reason = why_not(mode) if mode != "auto" else None
    if reason and mode == "rlimits":
        pytest.skip(f"{mode} does not work here: {reason}")
    if reason:
        missing(f"{mode} does not work here: {reason}")
