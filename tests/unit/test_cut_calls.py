"""What a call that was cut in its answer is taken to have used."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.models.rules.catalogue import Model, cost_nanodollars
from fleet.models.rules.cut_calls import (
    NOTICE_SECONDS,
    SILENCE_SECONDS,
    TOKENS_A_SECOND,
    Cut,
    cut_tokens,
    shows_all,
)
from fleet.money import Price, TokenRate, Tokens
from fleet.tasks.run.billing import Question, bound_of_cut, upper_bound

NOTHING = Tokens(0, 0)
PRICE = Price.per_thousand(0.003, 0.015, 0.0003, 0.00375)
QUESTION = Question("say hi", "be brief", 4096, 0.0)
UNDER_WAY = int(TOKENS_A_SECOND * NOTICE_SECONDS)


def model(price: Price | None = PRICE, free: bool = False) -> Model:
    return Model("m", "p", price, 0.9, 0.9, free=free)


def test_what_was_shown_and_what_was_on_the_way_is_taken() -> None:
    used = cut_tokens(Tokens(500, 4096), Cut(120, 0.0, NOTHING))
    assert used == Tokens(500, 120 + UNDER_WAY)


def test_the_longer_a_stream_was_silent_the_more_may_have_been_written() -> None:
    worst = Tokens(500, 4096)
    seconds = [0.0, 0.5, SILENCE_SECONDS]
    taken = [cut_tokens(worst, Cut(120, each, NOTHING)).output for each in seconds]
    assert taken == [370, 495, 870]


@pytest.mark.parametrize("silent", [SILENCE_SECONDS + 0.01, 3.0, 60.0])
def test_after_a_silence_the_provider_may_never_hear_of_the_end(silent: float) -> None:
    worst = Tokens(500, 16_384)
    assert cut_tokens(worst, Cut(120, silent, NOTHING)) == worst


def test_thoughts_that_are_not_shown_may_have_taken_all() -> None:
    assert cut_tokens(Tokens(500, 4096), Cut(None, 0.0, NOTHING)) == Tokens(500, 4096)


def test_output_that_was_told_is_taken_at_least() -> None:
    worst = Tokens(500, 4096)
    assert cut_tokens(worst, Cut(120, 0.0, Tokens(100, 900))).output == 900
    assert cut_tokens(worst, Cut(None, 0.0, Tokens(100, 5000))).output == 5000


def test_input_that_was_told_is_believed_and_output_is_not_until_the_end() -> None:
    told = Tokens(100, 1, cached_input=40, cache_write=30, reasoning=1)
    used = cut_tokens(Tokens(500, 4096), Cut(120, 0.0, told))
    assert used == Tokens(100, 120 + UNDER_WAY, 40, 30)


@given(
    st.integers(0, 10_000),
    st.integers(1, 5_000),
    st.one_of(st.none(), st.integers(0, 10_000)),
    st.floats(0, 1e6),
    st.data(),
)
def test_it_is_never_more_than_the_worst_and_never_less_than_what_was_shown(
    prompt: int, most: int, shown: int | None, silent: float, data: st.DataObject
) -> None:
    question = Question("p" * prompt, "", most, 0.0)
    worst = upper_bound(model(), "first", question)
    read = data.draw(st.integers(0, worst.input_tokens))
    cached = data.draw(st.integers(0, read))
    written = data.draw(st.integers(0, read - cached))
    step = bound_of_cut(worst, model(), Cut(shown, silent, Tokens(read, 1, cached, written)))
    assert step.output_tokens <= worst.output_tokens
    assert step.output_tokens >= min(most, shown or 0)
    assert step.cost_nanodollars <= worst.cost_nanodollars
    used = Tokens(step.input_tokens, step.output_tokens, cached, written)
    if read:
        assert step.cost_nanodollars == PRICE.cost(used)


def test_output_is_charged_as_its_dearest_kind() -> None:
    expensive = TokenRate(2 * PRICE.output.dollars)
    thinks = Price(PRICE.input, PRICE.output, reasoning=expensive)
    worst = upper_bound(model(thinks), "first", QUESTION)
    step = bound_of_cut(worst, model(thinks), Cut(100, 0.0, Tokens(50, 1)))
    output = 100 + UNDER_WAY
    assert step.cost_nanodollars == thinks.cost(Tokens(50, output, reasoning=output))
    assert step.cost_nanodollars > cost_nanodollars(model(thinks), Tokens(50, output))


def test_free_models_and_those_without_a_price_cost_nothing() -> None:
    for each in (model(None, free=True), model(None)):
        worst = upper_bound(each, "first", QUESTION)
        for told in (NOTHING, Tokens(50, 1)):
            step = bound_of_cut(worst, each, Cut(100, 0.0, told))
            assert (step.cost_nanodollars, step.output_tokens) == (0, 100 + UNDER_WAY)


def test_an_answer_shows_all_that_has_no_more_tokens_than_bytes_and_its_frame() -> None:
    assert shows_all(100, 0, Tokens(10, 25))
    assert shows_all(2, 0, Tokens(10, 66))
    assert not shows_all(2, 0, Tokens(10, 67))


def test_an_answer_hides_what_it_took_to_reason_beyond_the_thoughts_that_it_shows() -> None:
    assert shows_all(2400, 800, Tokens(10, 600, reasoning=200))
    assert not shows_all(2400, 800, Tokens(10, 1400, reasoning=801))
    assert not shows_all(2400, 0, Tokens(10, 600, reasoning=1))
