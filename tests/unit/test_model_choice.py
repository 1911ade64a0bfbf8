"""Choosing a model: tokens, costs and scores worked out by hand."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace

import pytest
from rich.console import Console

from fleet.cli.decision import model_json, model_view
from fleet.errors import InvalidConfig, InvalidRequest, OverBudget
from fleet.models.rules.choice import (
    REFERENCE_CATALOGUE,
    Model,
    ModelDecision,
    Price,
    Tokens,
    choose,
    cost_nanodollars,
    tokens,
)

GPT_5, GPT_4O, OPUS, SONNET, FLASH = REFERENCE_CATALOGUE
CODE, GENERAL = Tokens(500, 2000), Tokens(300, 800)
LOCAL = Model("local", "local", None, 0.30, 0.60, free=True)


def test_the_worked_example_of_the_reference_comes_out_exactly() -> None:
    # 500 x (0.5 + 1.5 x 0.7) = 500 x 1.55 = 775; 2000 x 1.55 = 3100
    # 0.775 x 0.002 + 3.1 x 0.006 = 0.00155 + 0.0186 = 0.02015 dollars
    # 0.95 x 0.8 (0.5 + 0.7) + 0.80 x 0.2 + 0 = 0.912 + 0.16 = 1.072
    decision = choose(REFERENCE_CATALOGUE, CODE, 0.7, 0.8, 0.2, limit_nanodollars=500_000_000)
    gpt_5 = next(each for each in decision.ranking if each.model == "gpt-5")
    assert (gpt_5.input_tokens, gpt_5.output_tokens) == (775, 3100)
    assert gpt_5.cost_nanodollars == 20_150_000
    assert gpt_5.score == pytest.approx(1.072)
    assert decision.model == "gpt-5"
    assert decision.best is gpt_5


def test_the_worked_example_ranks_all_five() -> None:
    # quality x 0.96 + speed x 0.2:
    # gpt-5 0.912 + 0.16 = 1.072; gpt-4o 0.864 + 0.18 = 1.044; opus 0.8832 + 0.14 = 1.0232
    # sonnet 0.8448 + 0.17 = 1.0148; flash 0.816 + 0.19 = 1.006
    # opus costs 0.9 x 775 = 697.5 -> 697 in, 2790 out: 0.010455 + 0.20925 = 0.219705, under 0.5
    decision = choose(REFERENCE_CATALOGUE, CODE, 0.7, 0.8, 0.2, 500_000_000)
    scores = {each.model: each.score for each in decision.ranking}
    assert scores == pytest.approx(
        {
            "gpt-5": 1.072,
            "gpt-4o": 1.044,
            "claude-opus-4.1": 1.0232,
            "claude-sonnet-3.5": 1.0148,
            "gemini-2.0-flash": 1.006,
        }
    )
    assert list(scores) == sorted(scores, key=lambda name: -scores[name])
    costs = {each.model: each.cost_nanodollars for each in decision.ranking}
    assert costs["claude-opus-4.1"] == 219_705_000


@pytest.mark.parametrize("base", [CODE, Tokens(1000, 1500), Tokens(800, 1200), GENERAL])
def test_base_tokens_come_out_at_complexity_one_third(base: Tokens) -> None:
    # 0.5 + 1.5 x 0.333333333333333333... = 1, so the next number above a third gives the base
    assert tokens(base, math.nextafter(1 / 3, 1), 1.0) == base


def test_tokens_are_rounded_down_after_the_efficiency() -> None:
    # general at c = 0.5: 300 x 1.25 = 375, 800 x 1.25 = 1000; x 0.9: 337.5 -> 337 and 900
    assert tokens(GENERAL, 0.5, 0.9) == Tokens(337, 900)


def test_tokens_lose_nothing_to_binary_fractions() -> None:
    # c = 0.58: 500 x 1.37 = 685, where floats make 684 of it; 2000 x 1.37 = 2740
    assert int(500 * (0.5 + 1.5 * 0.58)) == 684
    assert tokens(CODE, 0.58, 1.0) == Tokens(685, 2740)
    # c = 0.12: 0.68 x 500 x 1.2 = 408 and 0.68 x 2000 x 1.2 = 1632, where floats make 407
    assert tokens(CODE, 0.12, 1.2) == Tokens(408, 1632)
    # c = 0.1: 0.65 x 500 x 1.1 = 357.5 really is rounded down
    assert tokens(CODE, 0.1, 1.1) == Tokens(357, 1430)


@pytest.mark.parametrize(("complexity", "expected"), [(0, (250, 1000)), (1, (1000, 4000))])
def test_complexity_spans_half_to_twice_the_base(
    complexity: float, expected: tuple[int, int]
) -> None:
    assert tokens(CODE, complexity, 1.0) == Tokens(*expected)


def test_cost_is_rounded_up_to_a_whole_nanodollar() -> None:
    # 0.0000375 dollars for a thousand is 37.5 nanodollars a token: 3 tokens 112.5 -> 113
    model = replace(GPT_5, price=Price.per_thousand(0.0000375, 0.0))
    assert cost_nanodollars(model, Tokens(3, 0)) == 113
    assert cost_nanodollars(model, Tokens(4, 0)) == 150
    assert cost_nanodollars(model, Tokens(0, 0)) == 0


def test_a_free_model_costs_nothing() -> None:
    assert cost_nanodollars(replace(GPT_5, free=True), Tokens(1000, 1000)) == 0


def test_a_low_cost_counts_for_what_the_priorities_leave() -> None:
    # Q 0.4, S 0.2, c 0.5: quality x 0.4 x 1 + speed x 0.2 + 0.4 / (1 + cost)
    # general x 1.25: 375 in, 1000 out; gpt-5 costs 0.00075 + 0.006 = 0.00675
    # 0.38 + 0.16 + 0.4 / 1.00675 = 0.54 + 0.397318...
    best = choose([GPT_5], GENERAL, 0.5, 0.4, 0.2).best
    assert best.cost_nanodollars == 6_750_000
    assert best.score == pytest.approx(0.9373181)


def test_the_defaults_are_those_of_the_reference() -> None:
    # c 0.5, Q 0.7, S 0.3: gpt-5 0.665 + 0.24 = 0.905; gpt-4o 0.63 + 0.27 = 0.90
    decision = choose(REFERENCE_CATALOGUE, GENERAL)
    assert decision.ranking[0].score == pytest.approx(0.905)
    assert [each.model for each in decision.ranking][:2] == ["gpt-5", "gpt-4o"]


def test_models_over_the_limit_are_left_out_with_their_cost() -> None:
    # general at 0.5: 375 in, 1000 out; gpt-5 0.00675, sonnet 0.001125 + 0.015 = 0.016125
    decision = choose([GPT_5, SONNET], GENERAL, limit_nanodollars=6_750_000)
    assert [each.model for each in decision.ranking] == ["gpt-5"]
    assert decision.rejected == (
        ("claude-sonnet-3.5", "would cost $0.016125, over the limit of $0.00675"),
    )


def test_none_left_says_what_the_cheapest_would_have_cost() -> None:
    # flash x 1.2: 450 in, 1200 out: 0.00045 + 0.0024 = 0.00285
    # gpt-4o x 1.1: 412 in, 1100 out: 0.000618 + 0.0022 = 0.002818, the cheapest
    with pytest.raises(OverBudget, match=r"the cheapest, gpt-4o, would cost \$0\.002818; raise"):
        choose(REFERENCE_CATALOGUE, GENERAL, limit_nanodollars=2_000_000)


def test_a_free_model_fits_a_limit_of_nothing() -> None:
    assert choose([*REFERENCE_CATALOGUE, LOCAL], GENERAL, limit_nanodollars=0).model == "local"


def test_equal_scores_go_to_the_cheaper_and_then_by_name() -> None:
    # with Q + S = 1 the cost has no part in the score
    expensive = replace(GPT_5, name="a", price=Price.per_thousand(0.002, 0.1))
    twins = [expensive, replace(GPT_5, name="c"), replace(GPT_5, name="b")]
    decision = choose(twins, GENERAL, 0.5, 0.8, 0.2)
    assert [each.model for each in decision.ranking] == ["b", "c", "a"]


def test_an_empty_catalogue_is_a_matter_of_configuration() -> None:
    with pytest.raises(InvalidConfig, match="configure at least one model"):
        choose([], GENERAL)


@pytest.mark.parametrize("complexity", [-0.1, 1.1, math.nan])
def test_a_complexity_out_of_range_is_refused(complexity: float) -> None:
    with pytest.raises(InvalidRequest, match="complexity is"):
        choose(REFERENCE_CATALOGUE, GENERAL, complexity)


@pytest.mark.parametrize(("quality", "speed"), [(0.8, 0.3), (-0.1, 0.5), (0.5, math.nan)])
def test_priorities_out_of_range_are_refused(quality: float, speed: float) -> None:
    with pytest.raises(InvalidRequest, match="together at most 1"):
        choose(REFERENCE_CATALOGUE, GENERAL, 0.5, quality, speed)


def test_a_decision_survives_its_text() -> None:
    decision = choose(REFERENCE_CATALOGUE, GENERAL, limit_nanodollars=10_000_000)
    assert decision.rejected
    assert ModelDecision.from_json(json.loads(json.dumps(decision.to_json()))) == decision


def test_a_decision_that_was_stored_by_an_older_fleet_can_still_be_read() -> None:
    stored = {"ranking": [["gpt-5", "openai", 0.9, 6750000, 375, 1000, 0.95, 0.8]], "rejected": []}
    decision = ModelDecision.from_json(stored)
    assert decision.best.cost_nanodollars == 6_750_000
    assert decision.reserves == ()
    assert decision.best.strength == decision.best.quality == 0.95
    assert (decision.weights, decision.second_costs_more) == (None, None)
    shown = model_json(decision)
    assert shown["candidates"][0]["terms"] is None
    assert "from quality" not in rendered(decision)


def test_the_terms_of_a_score_add_up_to_it() -> None:
    decision = choose(REFERENCE_CATALOGUE, GENERAL, 0.7, 0.5, 0.2)
    assert decision.weights is not None
    for candidate in decision.ranking:
        assert sum(candidate.terms(decision.weights)) == pytest.approx(candidate.score)


def test_the_view_shows_terms_weights_rejections_and_second_place() -> None:
    # general at 0.5: gpt-5 costs 0.00675, gpt-4o with 412 in and 1100 out 0.002818
    decision = choose([GPT_5, GPT_4O, replace(OPUS, absent="no key: set X")], GENERAL)
    shown = rendered(decision)
    assert "Model: gpt-5" in shown
    assert "score = quality x 0.7 + speed x 0.3 + cheapness x 0" in shown
    assert "second place, gpt-4o, would have cost $0.002818: $0.003932 less" in shown
    assert "not claude-opus-4.1: no key: set X" in shown
    assert model_json(decision)["second_costs_more_nanodollars"] == -3_932_000
    # 0.95 x 0.7 and 0.80 x 0.3
    assert "0.6650" in shown
    assert "0.2400" in shown


def rendered(decision: ModelDecision) -> str:
    screen = Console(width=160, record=True, file=io.StringIO())
    screen.print(*model_view(decision), sep="\n")
    return screen.export_text()
