"""A submission that waits for replicas, and says so where they did not get it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from replicated_valkey import Replicated

from fleet import Fleet, Submission
from fleet.errors import (
    InvalidConfig,
    InvalidRequest,
    NotAllowed,
    NotReplicated,
    PartlySubmitted,
)
from fleet.settings import load_settings

ASK = ("code_generation", {"instruction": "add"})
CONFIG = "[redis]\nmin_replicas = {least}\nwait_seconds = {seconds}"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicated]:
    found = Replicated(tmp_path_factory.mktemp("replicated"))
    yield found
    found.stop()


@pytest.fixture
def patch(clean_environment: pytest.MonkeyPatch, servers: Replicated) -> pytest.MonkeyPatch:
    clean_environment.setenv("FLEET_BROKER_URL", servers.url)
    return clean_environment


def fleet(least: int, seconds: float = 20) -> Fleet:
    found = client(least, seconds)
    found._connection.routing.agents.register("codegen-1", "codegen", 100, {})
    return found


def client(least: int, seconds: float) -> Fleet:
    """One that has written nothing yet."""
    Path("fleet.toml").write_text(CONFIG.format(least=least, seconds=seconds))
    return Fleet(load_settings())


@pytest.fixture
def cut_off(servers: Replicated) -> Iterator[None]:
    servers.cut_replica_off()
    yield
    servers.link_again()


@pytest.fixture
def stopped(servers: Replicated) -> Iterator[None]:
    """The replica is linked, and does nothing."""
    pid = int(servers.replica_client.info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    yield
    os.kill(pid, signal.SIGCONT)


def test_what_was_acknowledged_is_on_the_replica(
    patch: pytest.MonkeyPatch, servers: Replicated
) -> None:
    patch.setenv("FLEET_SOCKET_TIMEOUT", "30")
    found = fleet(1)
    tasks = [found.submit(*ASK), *found.submit_many([Submission(*ASK)] * 150)]
    names = [found._connection.keys.task(task.id) for task in tasks]
    assert servers.replica_client.exists(*names) == 151


@pytest.mark.usefixtures("cut_off")
def test_what_the_replica_did_not_get_is_named_and_there_all_the_same(
    patch: pytest.MonkeyPatch,
) -> None:
    found = fleet(1, 0.05)
    with pytest.raises(NotReplicated, match="on 0 of 1 replicas after 50 ms") as told:
        found.submit(*ASK)
    (task,) = told.value.task_ids
    assert found.task(task).state() == "queued"
    assert told.value.retry_after > 0
    with pytest.raises(NotReplicated, match="3 submitted tasks are") as many:
        found.submit_many([Submission(*ASK)] * 3)
    assert [found.task(each).state() for each in many.value.task_ids] == ["queued"] * 3


@pytest.mark.usefixtures("cut_off")
def test_where_not_all_are_written_a_note_names_what_the_replica_did_not_get(
    patch: pytest.MonkeyPatch, servers: Replicated
) -> None:
    found, master = fleet(1, 0.05), servers.master_client
    many = [Submission("code_generation", {"instruction": "x" * 2000})] * 1000
    master.config_set("maxmemory", master.info("memory")["used_memory"] + 4_000_000)
    try:
        with pytest.raises(PartlySubmitted) as told:
            found.submit_many(many)
    finally:
        master.config_set("maxmemory", 0)
    (note,) = told.value.__notes__
    assert f"{len(told.value.submitted)} submitted tasks are on 0 of 1 replicas" in note
    assert note.endswith(f"Submitted: {', '.join(told.value.submitted)}")


@pytest.mark.usefixtures("cut_off")
def test_beside_one_that_is_refused_a_note_names_what_the_replica_did_not_get(
    patch: pytest.MonkeyPatch,
) -> None:
    found = fleet(1, 0.05)
    another = ("code_generation", {"instruction": "subtract"})
    with pytest.raises(InvalidRequest, match="used for another request") as told:
        found.submit_many([Submission(*each, idempotency_key="one") for each in (ASK, another)])
    written, few = told.value.__notes__
    assert "1 submitted task is on 0 of 1 replicas" in few
    assert few.split()[-1] == written.split()[-1]


@pytest.fixture
def may_not_wait(patch: pytest.MonkeyPatch, servers: Replicated) -> Iterator[None]:
    """The fleet's user has every right but the one to ask what the replicas have."""
    master = servers.master_client
    rights = {"keys": ["*"], "channels": ["*"], "commands": ["+@all", "-wait"]}
    master.acl_setuser("guest", enabled=True, passwords=["+right"], **rights)
    patch.setenv("FLEET_BROKER_URL", f"redis://guest:right@127.0.0.1:{servers.master.port}/0")
    yield
    master.acl_deluser("guest")


@pytest.mark.usefixtures("may_not_wait")
def test_who_may_not_ask_the_replicas_is_told_so() -> None:
    found = fleet(1, 0.05)
    with pytest.raises(NotAllowed, match="wait"):
        found.submit(*ASK)
    with pytest.raises(PartlySubmitted, match=r"0 are, 3 may be.*the user's rights") as many:
        found.submit_many([Submission(*ASK)] * 3)
    assert [found.task(each).state() for each in many.value.unsure] == ["queued"] * 3


@pytest.mark.usefixtures("stopped")
def test_the_same_submission_sent_again_is_not_taken_for_replicated(
    patch: pytest.MonkeyPatch,
) -> None:
    first, second = fleet(1, 0.05), client(1, 0.05)
    with pytest.raises(NotReplicated) as told:
        first.submit(*ASK, idempotency_key="once")
    # On a connection that has written nothing before, and writes no task now.
    with pytest.raises(NotReplicated) as again:
        second.submit(*ASK, idempotency_key="once")
    assert told.value.task_ids == again.value.task_ids


@pytest.mark.usefixtures("cut_off")
def test_nobody_waits_for_replicas_unless_told_to(patch: pytest.MonkeyPatch) -> None:
    assert fleet(0).submit(*ASK).state() == "queued"


def test_a_wait_that_outlasts_the_socket_is_refused(patch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidConfig, match=r"redis\.wait_seconds \(20\) must be less than"):
        fleet(1)
