"""The local model's server: it answers callers with its key, and allows no web page."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from fleet.errors import InvalidConfig
from fleet.local.model import key_of
from fleet.settings import Environment

PAGE = "https://page.example"
KEY = {"Authorization": "Bearer local"}
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}
QUESTION: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}


def status(url: str, headers: dict[str, str]) -> int:
    answer = httpx2.post(f"{url}/chat/completions", headers=headers, json=QUESTION, timeout=60)
    return answer.status_code


def test_only_a_caller_with_the_key_gets_an_answer(local_model_url: str) -> None:
    assert status(local_model_url, KEY) == 200
    assert status(local_model_url, {}) == 401
    assert status(local_model_url, {"Authorization": "Bearer another"}) == 401


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_no_web_page_is_allowed(local_model_url: str, method: str) -> None:
    headers = {"Origin": PAGE, **KEY, **PREFLIGHT}
    answer = httpx2.request(method, f"{local_model_url}/models", headers=headers, timeout=60)

    assert answer.status_code == 200
    assert answer.headers.get("access-control-allow-origin", "") == ""
    assert answer.headers.get("access-control-allow-credentials") != "true"


def test_the_server_has_no_pages_and_does_not_show_what_it_works_on(local_model_url: str) -> None:
    top = local_model_url.removesuffix("/v1")

    assert httpx2.get(top, headers=KEY, timeout=60).status_code == 404
    assert httpx2.get(f"{top}/slots", headers=KEY, timeout=60).status_code == 501


@pytest.mark.parametrize("key", [None, "", "schlüssel"], ids=["none", "empty", "not-ascii"])
def test_the_server_does_not_start_without_a_key(
    key: str | None, clean_environment: pytest.MonkeyPatch
) -> None:
    if key is not None:
        clean_environment.setenv("FLEET_MODEL_KEY", key)
    with pytest.raises(InvalidConfig, match="FLEET_MODEL_KEY"):
        key_of(Environment())
