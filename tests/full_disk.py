"""A Valkey that cannot save what it has, and so takes no writes: MISCONF, as on a full disk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis


@contextmanager
def full_disk(client: redis.Redis) -> Iterator[None]:
    """While it lasts a folder stands where the snapshot has to go."""
    folder, name = (client.config_get(each)[each] for each in ("dir", "dbfilename"))
    in_the_way = Path(folder) / name
    in_the_way.unlink(missing_ok=True)
    in_the_way.mkdir()
    client.config_set("save", "3600 1")
    try:
        client.bgsave()
        deadline = time.monotonic() + 20
        while client.info("persistence")["rdb_last_bgsave_status"] != "err":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield
    finally:
        client.config_set("save", "")
        in_the_way.rmdir()
