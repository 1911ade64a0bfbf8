"""Logs in a program that imports Fleet and configures structlog in its own way, or not at all."""

from __future__ import annotations

import subprocess
import sys

import pytest

CANARY = "canary-in-a-local-variable"

LOG_A_FAILURE = f"""
from fleet.telemetry.logger import get_logger
log = get_logger("fleet.program")

def fails():
    key = "-".join({CANARY.split("-")!r})
    raise ValueError("no such thing") from OSError("the cause")

for write in (log.exception, lambda event: log.error(event, exc_info=True)):
    try:
        fails()
    except ValueError:
        write("a failure")
try:
    fails()
except ValueError as error:
    log.warning("a failure", exc_info=error)
log.exception("nothing failed")
"""

JSON_WITH_VARIABLES = """
import structlog
structlog.configure([structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()])
"""

OWN_LOG = 'import structlog; log = structlog.get_logger("program")'


def logged(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("configuration", ["", JSON_WITH_VARIABLES], ids=["default", "json"])
def test_a_traceback_of_fleet_has_no_local_variables_in_a_users_program(configuration: str) -> None:
    text = logged(configuration + LOG_A_FAILURE)

    assert CANARY not in text
    assert text.count("no such thing") == 3
    assert text.count("the cause") == 3
    assert "nothing failed" in text


@pytest.mark.parametrize("configuration", ["", JSON_WITH_VARIABLES], ids=["default", "json"])
def test_a_logger_of_structlog_itself_shows_them(configuration: str) -> None:
    program = configuration + LOG_A_FAILURE.replace(
        'log = get_logger("fleet.program")', OWN_LOG
    )

    assert CANARY in logged(program)
