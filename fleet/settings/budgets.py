"""What fleet.toml may say about how much is spent."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fleet.settings.section import Section

Dollars = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Budgets(Section):
    """What may be spent in a UTC day and in a month, in US dollars.

    The spend analysis compares with them; nothing is refused because of them.
    """

    daily_usd: Dollars = 500
    monthly_usd: Dollars = 15000
