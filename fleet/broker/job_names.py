"""The Celery names of the jobs that beat runs. Any other task whose name begins with `fleet.` is a
user's own."""

from __future__ import annotations

REAP = "fleet.reap"
HEALTH = "fleet.health"
POOLS = "fleet.pools"
ROLL_UP = "fleet.rollup"
ARCHIVE = "fleet.ledger_archive"
SPEND = "fleet.spend"
UNPARK = "fleet.unpark"
BUDGETS = "fleet.budgets"
PRUNE = "fleet.prune"
RETAIN = "fleet.retain"

JOBS = frozenset({REAP, HEALTH, POOLS, ROLL_UP, ARCHIVE, SPEND, UNPARK, BUDGETS, PRUNE, RETAIN})
