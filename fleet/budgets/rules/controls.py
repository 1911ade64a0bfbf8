"""What steers the money beside the limits: the way down to cheaper models, the emergency mode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Downgrade(NamedTuple):
    """When a task goes to a cheaper model, and to which.

    `models` is a mapping without cycles. It is used where a task's estimate is over `over`
    nano-dollars, or from the share `nearly`, 0 to 1, of a dollar budget on.
    """

    models: Mapping[str, str]
    over: int
    nearly: float
