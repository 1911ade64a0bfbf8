"""Text from outside: which codes are kept, and that no known secret is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.outside import code_word, first_line, without_secrets

CODES = [
    "rate_limit_exceeded",
    "insufficient_quota",
    "invalid_request_error",
    "INVALID_ARGUMENT",
    "RESOURCE_EXHAUSTED",
    "ThrottlingException",
    "InvalidParameter.DataInspection",
    "ResponsibleAIPolicyViolation",
    "context_length_exceeded",
    "error 40303",
    "http/404",
    "model:gpt4",
]

KEYS = [
    "sk-proj-Zx81kQm2Lr9vTb47HsWd",
    "sk-ant-api03-q7Rz1m8Yt2Kc5Vn0",
    "AIzaSyD3k8Qm1Zr7Lw5Tb9Vx2Hc4Np6Js0Gf1Ea",
    "550e8400-e29b-41d4-a716-446655440000",
    "gsk_4f8aB2c9D1e7F3a6B5c8D2e9",
    "hf_9a8b7c6d5e4f3a2b1c0d",
    "0123456789abcdef0123456789abcdef",
    "AKIA3XQ7ZB5LM2NC8VTR",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc",
]


@pytest.mark.parametrize("code", CODES)
def test_a_code_of_a_provider_is_kept(code: str) -> None:
    assert code_word(code) == code


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
@pytest.mark.parametrize(
    "form", ["{}", "bad_key:{}", "Invalid key {}"], ids=["bare", "code", "text"]
)
def test_a_key_in_the_place_of_a_code_is_not_even_if_this_process_does_not_know_it(
    key: str, form: str
) -> None:
    assert code_word(form.format(key)) is None


@pytest.mark.parametrize(
    "text",
    ["", "7", "a" * 65, "a_b_c_d_e_f_g_h_i", "two\nlines", "schlüssel", "<b>", "a=b", "x\x1b[31m"],
    ids=["empty", "number", "long", "words", "lines", "unicode", "tag", "assignment", "control"],
)
def test_what_looks_like_no_code_is_not_kept(text: str) -> None:
    assert code_word(text) is None


@pytest.mark.parametrize(
    "code",
    ["correcthorsebattery", "CORRECTHORSEBATTERY", "bad_horsebat_key", "key correcthorsebattery"],
)
def test_a_code_with_a_part_of_a_known_secret_is_not_kept(code: str) -> None:
    assert code_word(code) == code
    assert code_word(code, ["another", "correcthorsebattery"]) is None


def test_a_short_secret_hides_only_the_codes_that_contain_all_of_it() -> None:
    assert code_word("bad_hush", ["hush"]) is None
    assert code_word("bad_key", ["hush", ""]) == "bad_key"


def test_secrets_are_replaced_also_as_they_stand_in_addresses() -> None:
    secrets = ["p/w@rd-long", "p/w@rd-long-and-longer", "short"]
    text = "redis://:p%2Fw%40rd-long@host said p/w@rd-long-and-longer, short"

    assert without_secrets(text, secrets) == "redis://:***@host said ***, short"


LETTERS = st.text("ab", min_size=8, max_size=12)


@given(st.lists(LETTERS, min_size=1, max_size=4), st.text("ab ", max_size=9))
def test_no_known_secret_stays_even_where_they_overlap(secrets: list[str], between: str) -> None:
    left = without_secrets(between.join(secrets), secrets)

    assert not [secret for secret in secrets if secret in left]


def test_a_message_of_another_library_is_cut_to_its_first_line() -> None:
    assert first_line("\n  one \x1b[31mline\nanother") == "one [31mline"
    assert len(first_line("x" * 1000)) == 100
    assert first_line("") == ""
