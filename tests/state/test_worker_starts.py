"""How an agents' worker is started is held against its pool before it does anything."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery.concurrency import get_implementation

from fleet.broker.app import Role, make_app
from fleet.broker.user_settings import check_agent_settings
from fleet.errors import InvalidConfig
from fleet.settings import Settings
from fleet.worker.start import check_execution, check_queues, name_of

POOLS = """
[pools.codegen]
agent_type = "code_generator"
slots = 4

[pools.forked]
agent_type = "code_generator"
slots = 2
execution = "prefork"
"""
CODEGEN, FORKED = Role("codegen", "codegen-1"), Role("forked", "forked-1")


@pytest.fixture
def settings(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Settings:
    return settings_of(POOLS)


@pytest.mark.parametrize(
    ("role", "execution", "concurrency", "autoscale"),
    [
        (CODEGEN, "threads", 4, None),
        (CODEGEN, "threads", "4", None),
        (FORKED, "prefork", 2, None),
        (FORKED, "prefork", 8, (2, 1)),
    ],
)
def test_a_worker_may_say_what_its_pool_says(
    settings: Settings, role: Role, execution: str, concurrency: Any, autoscale: Any
) -> None:
    check_execution(settings, role, execution, concurrency, autoscale)


@pytest.mark.parametrize(
    ("role", "execution", "concurrency", "autoscale", "words"),
    [
        (CODEGEN, "gevent", 4, None, '-P gevent: the workers of pool codegen run "threads"'),
        (CODEGEN, "eventlet", 4, None, "leave -P out$"),
        (CODEGEN, "solo", 4, None, "leave -P out$"),
        (CODEGEN, "prefork", 4, None, 'or set execution = "prefork"'),
        (FORKED, "threads", 2, None, 'or set execution = "threads"'),
        (CODEGEN, "threads", 3, None, "-c 3: each worker of pool codegen has 4 slots"),
        (CODEGEN, "threads", "auto", None, "-c auto: each worker"),
        (FORKED, "prefork", 2, (3, 1), "--autoscale 3: each worker of pool forked has 2 slots"),
    ],
)
def test_any_other_start_is_refused_with_what_to_do(
    settings: Settings, role: Role, execution: str, concurrency: Any, autoscale: Any, words: str
) -> None:
    with pytest.raises(InvalidConfig, match=words):
        check_execution(settings, role, execution, concurrency, autoscale)


def test_celerys_pools_are_known_by_name_and_by_class() -> None:
    assert name_of("threads") == name_of(get_implementation("threads")) == "threads"
    assert name_of("processes") == name_of(get_implementation("prefork")) == "prefork"
    assert name_of("gevent") == "gevent"
    assert name_of("shop.pools:Own") == "shop.pools:Own"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"queues": ["{fleet}.codegen", "{fleet}.overflow.code_generator", "shop"]},
        {"queues": "{fleet}.codegen, {fleet}.overflow.code_generator"},
        {"exclude_queues": ["{fleet}.jobs"]},
    ],
)
def test_an_agent_serves_its_pools_queues(settings: Settings, options: dict[str, Any]) -> None:
    check_queues(settings, CODEGEN, options)


@pytest.mark.parametrize(
    "options",
    [
        {"queues": ["shop"]},
        {"queues": "{fleet}.codegen"},
        {"exclude_queues": ["{fleet}.codegen"]},
    ],
)
def test_one_that_would_leave_its_tasks_lying_is_refused(
    settings: Settings, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidConfig, match="-Q: an agent of pool codegen has to serve"):
        check_queues(settings, CODEGEN, options)


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("accept_content", ["pickle"], 'add "json"'),
        ("worker_disable_prefetch", False, "as many tasks as it has free slots"),
    ],
)
def test_settings_that_would_break_an_agent_are_refused(
    settings: Settings, setting: str, value: Any, words: str
) -> None:
    app = make_app(settings, CODEGEN, set_as_current=False)
    check_agent_settings(app.conf)
    app.conf[setting] = value
    with pytest.raises(InvalidConfig, match=words):
        check_agent_settings(app.conf)


def test_the_command_ends_with_the_sentence_before_anything_is_registered(
    settings: Settings, client: redis.Redis
) -> None:
    command = [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-P", "solo"]
    done = subprocess.run(
        command,
        env={**os.environ, "FLEET_POOL": "codegen"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    said = done.stdout.splitlines()[-1]
    assert done.returncode == 1
    assert said.startswith('Error: -P solo: the workers of pool codegen run "threads"')
    assert client.keys() == []
