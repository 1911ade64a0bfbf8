"""Fleet's loggers: structlog's, as the process has configured it, without a traceback's variables.

structlog's default prints the local variables of every frame where Rich can be imported, and
`dict_tracebacks` always does. A local variable may hold a payload or a key. A program that imports
Fleet configures structlog for itself, or not at all. So these loggers write a traceback as text
themselves, and no renderer sees the error.
"""

from __future__ import annotations

import sys
import traceback
from typing import Any

import structlog


class Logger:
    """Logs events with fields. `exc_info` is an error, or True for the one being handled.

    In a process that has not configured structlog, events go to the error stream: its output may be
    read by a program.
    """

    def __init__(self, name: str) -> None:
        self._configured: Any = structlog.get_logger(name)

    @property
    def _log(self) -> Any:
        if structlog.is_configured():
            return self._configured
        return structlog.wrap_logger(structlog.PrintLogger(sys.stderr))

    def debug(self, event: str, **fields: object) -> None:
        """An event that only a developer of Fleet wants to see."""
        self._log.debug(event, **_without_error(fields))

    def info(self, event: str, **fields: object) -> None:
        """An event of normal operation."""
        self._log.info(event, **_without_error(fields))

    def warning(self, event: str, **fields: object) -> None:
        """A fault that Fleet deals with."""
        self._log.warning(event, **_without_error(fields))

    def error(self, event: str, **fields: object) -> None:
        """A fault that a person should look at."""
        self._log.error(event, **_without_error(fields))

    def exception(self, event: str, **fields: object) -> None:
        """As `error`, with the traceback of the error being handled."""
        self.error(event, **{"exc_info": True, **fields})


def get_logger(name: str) -> Logger:
    """The logger of a module: `log = get_logger(__name__)`."""
    return Logger(name)


def _without_error(fields: dict[str, object]) -> dict[str, object]:
    """The fields with the text of the traceback in place of the error."""
    error = fields.pop("exc_info", None)
    if error is True:
        error = sys.exception()
    if isinstance(error, BaseException):
        fields["exception"] = "".join(traceback.format_exception(error)).rstrip()
    return fields
