"""Why a task's money is not held for the best model, in words."""

from __future__ import annotations

import pytest

from fleet.models.rules.downgrade_reasons import describe_downgrade

REFUSAL = "tenant:a|b|d|1|5000000000|4900000000|0|200000000|3600000"


@pytest.mark.parametrize(
    ("because", "words"),
    [
        ("", ""),
        ("nearly|0.9312", "93% of a budget would be used"),
        ("dear|gpt-5|250000000", "gpt-5 would cost $0.25, over the downgrade threshold"),
        ("dear|odd|name|1", "odd|name would cost $0.000000001, over the downgrade threshold"),
        (
            REFUSAL,
            "Budget exceeded for tenant a|b: limit $5 per UTC day, $4.9 spent, $0 reserved, "
            "$0.2 requested",
        ),
    ],
)
def test_each_reason_is_a_sentence(because: str, words: str) -> None:
    assert describe_downgrade(because) == words
