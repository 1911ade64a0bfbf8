"""Logs: one line for each event, in the same format for Fleet and Celery."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from structlog.typing import Processor

from fleet.text import plain_lines


def set_up_logs(level: str, hidden: Callable[[str], str]) -> None:
    """Send structlog's events and the standard library's records to standard error.

    `hidden` is applied to each line: it replaces the secrets that the process knows.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # Tracebacks have no local variables, which may hold a payload or a key.
                structlog.dev.ConsoleRenderer(
                    colors=False, exception_formatter=structlog.dev.plain_traceback
                ),
                partial(_made_safe, hidden),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # At level info they log each model call with its address.
    for library in ("httpx", "httpx2"):
        logging.getLogger(library).setLevel(logging.WARNING)
    # Bandit warns about a missing package for an output format that Fleet does not use.
    logging.getLogger("stevedore").setLevel(logging.CRITICAL)


def _made_safe(hidden: Callable[[str], str], _logger: Any, _method: str, line: Any) -> Any:
    """A line without secrets and control characters: names and errors may come from users."""
    return plain_lines(hidden(line)) if isinstance(line, str) else line
