"""Results in the formats of other tools.

A result that holds `plot_png_base64` can be written as a picture. An agent whose results can
be written as SARIF has a module `sarif` with `to_sarif(result)` beside its implementation.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from fleet.agent import AgentSpec, Result, installed_agents
from fleet.errors import InvalidRequest


def write_sarif(agent_type: str, stored: dict[str, Any] | None, target: Path) -> None:
    """Write a scan's findings as SARIF 2.1.0. Raises `InvalidRequest` where there are none."""
    spec = installed_agents().get(agent_type)
    if spec is None:
        raise InvalidRequest(f"no agent of type {agent_type} is installed here; install one")
    result = spec.result.model_validate(_there(stored))
    document = json.dumps(_to_sarif(spec)(result), indent=2) + "\n"
    _write(target, document.encode())


def write_plot(stored: dict[str, Any] | None, target: Path) -> None:
    """Write the distributions of timings as a PNG. Raises `InvalidRequest` without a plot."""
    plot = _there(stored).get("plot_png_base64")
    if not plot:
        raise InvalidRequest(
            "the task's result holds no plot; only performance tests draw one, on a worker with "
            "matplotlib: pip install 'fleet[plots]'"
        )
    _write(target, base64.b64decode(plot))


def _write(target: Path, content: bytes) -> None:
    try:
        target.write_bytes(content)
    except OSError as error:
        raise InvalidRequest(
            f"{target}: cannot be written ({error.strerror}); name another"
        ) from error


def _there(stored: dict[str, Any] | None) -> dict[str, Any]:
    if stored is None:
        raise InvalidRequest("the task has no result; wait for it to end, or look at its error")
    return stored


def _to_sarif(spec: AgentSpec) -> Callable[[Result], Any]:
    package, dot, _ = spec.implementation.partition(":")[0].rpartition(".")
    try:
        found: Callable[[Result], Any] = import_module(f"{package}{dot}sarif").to_sarif
    except (ImportError, AttributeError) as error:
        raise InvalidRequest(
            f"results of {spec.agent_type} cannot be written as SARIF; leave --sarif out"
        ) from error
    return found
