"""The master by way of its Sentinels: found by its name, and what goes wrong told as what it is."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from replicated_valkey import PASSWORD, SENTINEL_PASSWORD, Replicated, Sentinels

from fleet.errors import NotAllowed, Unavailable
from fleet.operations.broker import ping
from fleet.settings import load_settings


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("watched")
    servers = Replicated(folder)
    sentinels = Sentinels(folder / "sentinels", servers)
    yield sentinels.url
    sentinels.stop()
    servers.stop()


def ask(url: str, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("FLEET_BROKER_URL", url)
    ping(load_settings())


def test_the_master_is_found_though_the_first_sentinel_is_down(
    url: str, clean_environment: pytest.MonkeyPatch
) -> None:
    began = time.monotonic()
    ask(url.replace("@127.0.0.1", "@127.0.0.1:1,127.0.0.1"), clean_environment)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("right", "wrong", "error", "says"),
    [
        (f":{PASSWORD}@", ":hunter2@", NotAllowed, "refused the user, the password"),
        (SENTINEL_PASSWORD, "hunter2", NotAllowed, "refused the user, the password"),
        ("master=fleet", "master=other", Unavailable, "no Sentinel names a master other of the"),
    ],
)
def test_what_the_sentinels_refuse_is_told_soon_and_without_a_password(
    url: str,
    clean_environment: pytest.MonkeyPatch,
    right: str,
    wrong: str,
    error: type[Exception],
    says: str,
) -> None:
    began = time.monotonic()
    with pytest.raises(error, match=says) as told:
        ask(url.replace(right, wrong), clean_environment)
    assert time.monotonic() - began < 30
    assert "hunter2" not in str(told.value)
    assert PASSWORD not in str(told.value)
