"""The ledger's part of Redis, and its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fleet.ledger.rollups_store import Rollups
from fleet.ledger.store import Ledger


@dataclass(frozen=True, slots=True)
class LedgerStores:
    """The newest entries, the roll-ups, and the folder with the archive's files."""

    entries: Ledger
    rollups: Rollups
    data_dir: Path
