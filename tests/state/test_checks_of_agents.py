"""What an agent's own check of a payload raises is a sentence for whoever sent the payload."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fleet import Fleet
from fleet.errors import InvalidRequest
from fleet.settings import Settings


def test_an_error_in_an_agents_own_check_is_the_requests(
    settings_of: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = Fleet(settings_of(""))
    payload = fleet._connection.agents["code_generator"].payload

    def check(_: Any) -> Any:
        raise KeyError("a secret of the payload")

    monkeypatch.setattr(payload, "model_validate", check)
    with pytest.raises(InvalidRequest, match="checking it raised KeyError") as caught:
        fleet.submit("code_generation", {"instruction": "add"})
    assert "secret" not in str(caught.value)
