"""What a run saves for the next run of its task to go on from, and what earlier runs have saved."""

from __future__ import annotations

import json
from typing import Any

from fleet.agent import ModelReply
from fleet.tasks.checkpoints_store import checked_name
from fleet.tasks.model_calls_store import ModelCallStore
from fleet.tasks.store import Lease
from fleet.text import made_whole


class Checkpoints:
    """Those of one run. What is saved is JSON: a tuple comes back as a list."""

    def __init__(self, lease: Lease, store: ModelCallStore) -> None:
        self.lease = lease
        self.store = store
        self._values = {each.name: each.value for each in lease.saved}
        self._fences = {each.name: each.fence for each in lease.saved}

    def __contains__(self, name: str) -> bool:
        return checked_name(name) in self._values

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a name, or the default. Raises `ValueError` for a name that cannot be."""
        return json.loads(self._values[name]) if name in self else default

    def reply(self, name: str) -> ModelReply | None:
        """The answer of a model that is saved under a name. Raises `ValueError` where something
        else is."""
        if name not in self:
            return None
        return ModelReply.model_validate_json(self._values[name])

    def fence(self, name: str) -> int:
        """The fence of the run that has saved it."""
        return self._fences[name]

    def save(self, name: str, value: Any) -> None:
        """Save a value. Blocks. Raises `ValueError` for a name that cannot be, and `TypeError` or
        `ValueError` for what is no JSON; else what `ModelCallStore.save` raises."""
        dumped = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        packed = made_whole(dumped)
        self.store.save(self.lease, checked_name(name), packed)
        self.note(name, packed)

    def note(self, name: str, packed: str) -> None:
        """Remember what this run has saved."""
        self._values[name] = packed
        self._fences[name] = self.lease.fence
