"""The real local language model, started once for the tests that talk to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.adapters.local_model import find_weights
from fleet.errors import InvalidConfig


def installed_weights() -> Path:
    """Without the weights, tests are skipped at home and fail where CI is set."""
    try:
        return find_weights()
    except InvalidConfig as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def local_model_url() -> Iterator[str]:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(installed_weights())
    # One thread: beside other busy processes a second one makes answers slower, not faster.
    parameters.n_ctx, parameters.n_parallel, parameters.cpuparams.n_threads = 4096, 1, 1
    parameters.hostnames, parameters.port = ["127.0.0.1"], 0
    parameters.verbosity = -1
    server = xllamacpp.Server(parameters)
    yield f"{server.listening_address}/v1"
    del server
