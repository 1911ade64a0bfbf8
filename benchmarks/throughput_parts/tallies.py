"""How many tasks the workers of one side have ended: the size of the files that they append to."""

from __future__ import annotations

from pathlib import Path


class Tallies:
    """The folder in which each process of a side keeps its own count."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder

    def total(self) -> int:
        """Tasks that have ended so far, in all processes."""
        return sum(self.by_process())

    def by_process(self) -> list[int]:
        """The same for each process that has ended any."""
        return [path.stat().st_size for path in self.folder.iterdir()]
