"""Logs: one line an event, the same shape from Fleet and from Celery."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from structlog.typing import Processor

from fleet.text.plain_text import plain_lines


def set_up_logs(level: str) -> None:
    """Send structlog's events and the standard library's records to standard error."""
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
                # Without local variables: they may hold a payload, or a key.
                structlog.dev.ConsoleRenderer(
                    colors=False, exception_formatter=structlog.dev.plain_traceback
                ),
                _without_controls,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Its lines at info say that each model call was made, with the address.
    for library in ("httpx", "httpx2"):
        logging.getLogger(library).setLevel(logging.WARNING)
    # Bandit offers an output format that wants a package of its own; Fleet writes SARIF itself.
    logging.getLogger("stevedore").setLevel(logging.CRITICAL)


def _without_controls(_logger: Any, _method: str, line: Any) -> Any:
    """A line as text alone: names of tasks, reasons and errors may be a stranger's."""
    return plain_lines(line) if isinstance(line, str) else line
