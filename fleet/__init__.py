"""Fleet runs AI agents as a fleet of Celery workers.

    from fleet import Fleet
    task = Fleet.from_env().submit("code_generation", {"instruction": "..."})
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fleet.client import Fleet, Task
    from fleet.tasks.submission.checks import Submission

__all__ = ["Fleet", "Submission", "Task"]

_HOMES = {
    "Fleet": "fleet.client",
    "Task": "fleet.client",
    "Submission": "fleet.tasks.submission.checks",
}


def __getattr__(name: str) -> Any:
    # Resolved on first use: `import fleet.errors` should not load a client of Redis.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
