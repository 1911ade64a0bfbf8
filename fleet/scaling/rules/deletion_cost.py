"""Which pod of a pool Kubernetes ends first: that of the lowest deletion cost."""

from __future__ import annotations

PER_RANK = 1_000_000_000
"""More than the minutes since 1970; twice as much fits the 32 bits of a cost."""

FIRST = -2 * PER_RANK
"""The cost of a pod whose agent may end now: it was drained, and runs nothing."""


def deletion_cost(registered: float, running: int, is_leaving: bool) -> int:
    """The cost of ending the pod of an agent that registered at a time, in seconds since 1970.

    An agent that is drained to leave comes first, then an idle one, then one that runs tasks.
    Among equals the oldest comes first. The cost changes only when the agent becomes idle, becomes
    busy, or is drained.
    https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#pod-deletion-cost
    """
    rank = -1 if is_leaving else int(running > 0)
    return rank * PER_RANK + int(registered // 60)
