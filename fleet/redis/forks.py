"""A client of Redis that was made before a fork, used after it: by the children of prefork workers.

The stock pool of connections empties itself in the child, under a lock that it inherits. Where a
thread of the parent held that lock at the fork, the child would wait for that thread for ever.
"""

from __future__ import annotations

import os
import threading
import weakref

import redis


def renew_locks_after_forks(client: redis.Redis) -> None:
    """Give the client's pool locks of its own in each process that is forked from now on."""
    kept = weakref.ref(client.connection_pool)

    def renew() -> None:
        pool = kept()
        if pool is not None:
            pool._lock, pool._fork_lock = threading.RLock(), threading.RLock()

    os.register_at_fork(after_in_child=renew)
