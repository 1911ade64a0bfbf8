"""The real local language model, started once for the tests that talk to it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from fleet.adapters.local_model import find_weights, start_model
from fleet.errors import InvalidConfig


def need_weights() -> None:
    """Without the weights, tests are skipped at home and fail where CI is set."""
    try:
        find_weights()
    except InvalidConfig as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def local_model_url() -> Iterator[str]:
    need_weights()
    server = start_model(0)
    yield f"{server.listening_address}/v1"
    del server
