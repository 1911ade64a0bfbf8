"""Which days somebody means, and what a mistake is told."""

from __future__ import annotations

import pytest

from fleet.errors import InvalidRequest
from fleet.ledger.period import Period, period_of

TODAY = "20261124"


def test_without_a_word_it_is_the_last_thirty_days_with_today() -> None:
    found = period_of(TODAY)
    assert found == Period("20261026", TODAY, open_day=True)
    assert len(found.days) == 30


def test_a_period_is_named_by_its_days_or_by_their_number() -> None:
    assert period_of(TODAY, "2026-11-01", "2026-11-15") == Period("20261101", "20261115", False)
    assert period_of(TODAY, "20261101") == Period("20261101", TODAY, True)
    assert period_of(TODAY, days=1) == Period(TODAY, TODAY, True)
    assert period_of(TODAY, last="2026-03-02", days=3) == Period("20260228", "20260302", False)


@pytest.mark.parametrize(
    ("first", "last", "days", "says"),
    [
        ("2026-13-01", None, None, "--from 2026-13-01: is no valid date; write it as 2"),
        (None, "yesterday", None, "--to yesterday: is no valid date"),
        ("2026-02-29", None, None, "is no valid date"),
        (None, "2026-11-25", None, "--to 2026-11-25: is after today, 20261124"),
        ("2026-11-10", "2026-11-09", None, "--from 2026-11-10: is after the period's last day"),
        ("2026-11-10", None, 3, "give --from or --days, not both"),
        ("2020-01-01", None, None, "is 2520 days; ask for at most 1100"),
        (None, None, 5000, "is 5000 days; ask for at most 1100"),
    ],
)
def test_a_mistake_is_told(
    first: str | None, last: str | None, days: int | None, says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says):
        period_of(TODAY, first, last, days)
