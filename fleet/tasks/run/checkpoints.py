"""The checkpoints of a run: those of earlier runs, and those that it saves itself."""

from __future__ import annotations

import json
from typing import Any

from fleet.agent import ModelReply
from fleet.tasks.checkpoints_store import checked_name
from fleet.tasks.model_calls_store import ModelCallStore
from fleet.tasks.store import Lease
from fleet.text import made_whole


class Checkpoints:
    """The checkpoints that one run sees. Values are JSON: a tuple comes back as a list."""

    def __init__(self, lease: Lease, store: ModelCallStore) -> None:
        self.lease = lease
        self.store = store
        self._values = {each.name: each.value for each in lease.saved}
        self._fences = {each.name: each.fence for each in lease.saved}

    def __contains__(self, name: str) -> bool:
        return checked_name(name) in self._values

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a checkpoint, or the default. Raises `ValueError` for an invalid name."""
        return json.loads(self._values[name]) if name in self else default

    def reply(self, name: str) -> ModelReply | None:
        """The saved answer of a model, None if there is none. Raises `ValueError` if the checkpoint
        is something else."""
        if name not in self:
            return None
        return ModelReply.model_validate_json(self._values[name])

    def fence(self, name: str) -> int:
        """The fence of the run that saved the checkpoint."""
        return self._fences[name]

    def save(self, name: str, value: Any) -> None:
        """Save a value. Blocks. Raises `ValueError` for an invalid name, `TypeError` or
        `ValueError` for a value that is no JSON, and the errors of `ModelCallStore.save`."""
        dumped = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        packed = made_whole(dumped)
        self.store.save(self.lease, checked_name(name), packed)
        self.note(name, packed)

    def note(self, name: str, packed: str) -> None:
        """Remember a checkpoint that this run has saved."""
        self._values[name] = packed
        self._fences[name] = self.lease.fence
