"""The secrets that a process knows, and where it hides them."""

from __future__ import annotations

import logging

import pytest
import structlog

from fleet.secrets.known import KnownSecrets
from fleet.settings import load_settings
from fleet.telemetry.logger import get_logger
from fleet.telemetry.logs import set_up_logs

VARIABLES = {
    "FLEET_BROKER_URL": "redis://fleet:broker%2Fcanary@127.0.0.1:6379/0",
    "FLEET_FLOWER_PASSWORD": "flower-canary",
    "FLEET_MODEL_URL": "http://me:address-canary@127.0.0.1:1/v1",
    "FLEET_MODEL_KEY": "model-canary",
    "OPENAI_API_KEY": " provider-canary\n",
    "AWS_SECRET_ACCESS_KEY": "aws-canary",
}
CANARIES = [
    *("broker/canary", "flower-canary", "address-canary", "model-canary", "provider-canary"),
    *("aws-canary", "stored-canary"),
]


@pytest.fixture
def known(clean_environment: pytest.MonkeyPatch) -> KnownSecrets:
    for name, value in VARIABLES.items():
        clean_environment.setenv(name, value)
    return KnownSecrets(load_settings(), VARIABLES).include(lambda: ["stored-canary"])


@pytest.mark.parametrize("canary", [*CANARIES, "broker%2Fcanary"])
def test_each_secret_of_the_process_is_hidden(known: KnownSecrets, canary: str) -> None:
    assert known.hidden(f"it said {canary}!") == "it said ***!"


def test_without_secrets_nothing_is_hidden(clean_environment: pytest.MonkeyPatch) -> None:
    known = KnownSecrets(load_settings(), {})

    assert known.values() == frozenset()
    assert known.hidden("redis://127.0.0.1:6379") == "redis://127.0.0.1:6379"


def test_no_line_of_the_logs_has_a_secret(
    known: KnownSecrets, capsys: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        set_up_logs("info", known.hidden)
        for canary in CANARIES:
            logging.getLogger("celery.test").error("task %s failed", canary)
            try:
                raise ValueError(canary)
            except ValueError:
                get_logger("fleet.test").exception("an agent failed", field=canary)
    finally:
        root.handlers[:], _ = before
        root.setLevel(before[1])
        structlog.reset_defaults()
    shown = capsys.readouterr().err

    assert shown.count("ValueError: ***") == len(CANARIES)
    assert "task *** failed" in shown
    assert not [canary for canary in CANARIES if canary in shown]
