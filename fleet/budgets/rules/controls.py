"""Controls of spending beside the limits: downgrades to cheaper models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Downgrade(NamedTuple):
    """When a task goes to a cheaper model, and to which model.

    `models` maps each model to a cheaper one, without cycles. It applies if a task's estimate is
    over `over` nano-dollars, or once the share `nearly`, 0 to 1, of a dollar budget is used.
    """

    models: Mapping[str, str]
    over: int
    nearly: float
