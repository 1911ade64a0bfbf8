"""Files of ledger entries in Parquet: the archive, and what other tools read.

A file of the archive is whole or not there: it is written under another name, forced to the disk
and renamed. Its name has the ids of its first and last entry, so that writing the same entries
again makes the same file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from fleet.errors import InvalidConfig, Unavailable, extra_missing
from fleet.ledger.rules.entries import NUMBERS, LedgerEntry

FOLDER = "ledger"
ROWS = 2000
"""Entries that are in memory at once while a file is read."""

PART = ".part"
LEFT_OVER_SECONDS = 86_400
"""A part so old belongs to a process that died."""

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


def load_arrow() -> tuple[Any, Any]:
    """The modules `pyarrow` and `pyarrow.parquet`: 60 MB that only archives and Parquet need.

    Raises `InvalidConfig` where they are not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise extra_missing("a Parquet file of the ledger", "parquet") from error
    return pa, pq


def schema() -> pa.Schema:
    """The columns of an entry."""
    pa, _ = load_arrow()
    return pa.schema(
        [(name, pa.int64() if name in NUMBERS else pa.string()) for name in LedgerEntry._fields]
    )


class LedgerFiles:
    """The archive under a data folder. Every worker and reader must see the same one."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / FOLDER

    def write(self, entries: Sequence[LedgerEntry]) -> str:
        """Keep entries, in order, as one file; its name.

        Raises `Unavailable` where that fails, `InvalidConfig` without pyarrow.
        """
        _, pq = load_arrow()
        day = datetime.fromtimestamp(entries[0].epoch, UTC).date()
        name = f"{day}/{entries[0].id}_{entries[-1].id}.parquet"
        path = self.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _drop_left_over(path.parent)
            with whole_file(path) as part:
                pq.write_table(as_table(entries), part, row_group_size=ROWS)
        except OSError as error:
            raise Unavailable(
                f"{path}: cannot be written ({error.strerror}); the ledger keeps its entries"
            ) from error
        return name

    def read(self, name: str) -> Iterator[list[LedgerEntry]]:
        """The entries of a file, in order. Raises `InvalidConfig` where it is not here, or pyarrow
        is not installed."""
        with self._opened(name) as file:
            for batch in file.iter_batches(ROWS, columns=list(LedgerEntry._fields)):
                yield [LedgerEntry(**row) for row in batch.to_pylist()]

    def length(self, name: str) -> int:
        """How many entries a file has. Raises `InvalidConfig` where it is not here."""
        with self._opened(name) as file:
            return int(file.metadata.num_rows)

    @contextmanager
    def _opened(self, name: str) -> Iterator[pq.ParquetFile]:
        pa, pq = load_arrow()
        path = self.folder / name
        try:
            with pq.ParquetFile(path) as file:
                yield file
        except (OSError, pa.ArrowException) as error:
            raise InvalidConfig(
                f"{path}: a file of the ledger's archive cannot be read ({error}); let "
                "FLEET_DATA_DIR name the folder that the fleet's workers share"
            ) from error


def as_table(entries: Iterable[LedgerEntry]) -> pa.Table:
    """Entries as a table of Arrow, a column for each field."""
    pa, _ = load_arrow()
    fields = schema()
    columns = list(zip(*entries, strict=True)) or [()] * len(fields)
    arrays = [pa.array(each, field.type) for each, field in zip(columns, fields, strict=True)]
    return pa.table(arrays, fields)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file to write instead, which takes the place of `path` once it is whole and on the disk."""
    part = path.with_name(f".{path.name}.{uuid4().hex}{PART}")
    try:
        yield part
        _sync(part)
        part.replace(path)
        _sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _drop_left_over(folder: Path) -> None:
    for path in folder.glob(f".*{PART}"):
        if time.time() - path.stat().st_mtime > LEFT_OVER_SECONDS:
            path.unlink(missing_ok=True)
