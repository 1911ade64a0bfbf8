"""An agent of a foreign package: no file of Fleet's names it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from commands import run_fleet

from fleet import Fleet, Task
from fleet.cli.task_view import result_view
from fleet.errors import OverBudget
from fleet.operations.health import sandbox_parts
from fleet.settings import Settings
from fleet.tasks.store import Lease

PACKAGE = Path(__file__).parent / "poet"
POEM = {"lines": ["a rose", "a thorn"]}
CONFIG = """
[agent_types.poet]
[pools.poets]
agent_type = "poet"
[request_types.poem]
agent_type = "poet"
[request_types.ode]
agent_type = "poet"
model_task = "general"
[models]
catalogue = "reference"
[budgets]
daily_usd = 1000
"""


@pytest.fixture
def fleet(
    client: redis.Redis, settings_of: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Fleet]:
    """A fleet with the package on Python's path, as if it were installed."""
    monkeypatch.syspath_prepend(str(PACKAGE))
    found = Fleet(settings_of(CONFIG))
    found._connection.routing.agents.register("poets-1", "poets", 10, {"host": "here", "pid": "1"})
    yield found
    for name in ("poet", "poet_view"):
        sys.modules.pop(name, None)


@pytest.fixture
def task(fleet: Fleet) -> Task:
    """A task of it that has ended."""
    state = fleet._connection
    task = fleet.submit("poem", {"about": "a rose"}, complexity=0.5, model="gpt-5")
    lease = state.tasks.records.claim(task.id, "poets-1", "poets", 30, "once", "default", "")
    assert isinstance(lease, Lease)
    state.tasks.records.begin(lease)
    state.tasks.records.finish(lease, "poets", "succeeded", 60, {"result": json.dumps(POEM)})
    return task


def test_its_result_is_shown_as_it_says(task: Task, tmp_path: Path) -> None:
    shown = run_fleet("task", task.id, folder=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "~ a rose ~\n~ a thorn ~" in shown.stdout


def test_a_result_of_another_version_is_shown_as_json(fleet: Fleet) -> None:
    (text,) = result_view("poet", {"stanzas": 3}).renderables
    assert '"stanzas": 3' in str(text)


def test_its_formats_are_written_as_it_says(task: Task, tmp_path: Path) -> None:
    told = run_fleet("task", task.id, "--format", "verse", folder=tmp_path)
    assert (told.returncode, told.stdout) == (0, "a rose / a thorn\n")
    written = run_fleet("task", task.id, "--format", "pdf", "-o", "poem.pdf", folder=tmp_path)
    assert "~ a rose ~" in written.stdout
    assert (tmp_path / "poem.pdf").read_bytes() == b"%PDF 2"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--format", "sarif"), "no format 'sarif'; their formats: pdf, verse"),
        (("--format", "pdf"), "pdf is a binary format; name a file with --output"),
        (("--output", "poem.pdf"), "--output needs --format; give both"),
    ],
)
def test_a_format_that_cannot_be_written_is_refused(
    task: Task, tmp_path: Path, options: tuple[str, ...], sentence: str
) -> None:
    refused = run_fleet("task", task.id, *options, folder=tmp_path)
    assert refused.returncode == 2
    assert sentence in " ".join(refused.stderr.split())
    assert not (tmp_path / "poem.pdf").exists()


def test_its_estimate_chooses_the_model_and_holds_the_money(fleet: Fleet, task: Task) -> None:
    # 4000 x (0.5 + 1.5 x 0.5) = 5000 in, 9000 x 1.25 = 11250 out, of gpt-5:
    # 5 x 0.002 + 11.25 x 0.006 = 0.0775 dollars
    best = task.model_decision.best
    assert (best.input_tokens, best.output_tokens) == (5000, 11250)
    assert best.cost_nanodollars == 77_500_000
    fleet.submit("poem", {"about": "a thorn"}, complexity=0.5, model="gpt-5")
    limits = [each for each in fleet.limits() if each.key.window == "day"]
    assert [each.reserved for each in fleet.limit_usage(limits)] == [77_500_000]


def test_a_request_type_may_have_another_estimate(fleet: Fleet) -> None:
    best = fleet.submit("ode", {"about": "joy"}, complexity=0.5, model="gpt-5").model_decision.best
    assert (best.input_tokens, best.output_tokens) == (375, 1000)


def test_too_dear_a_task_is_refused_by_its_estimate(fleet: Fleet) -> None:
    with pytest.raises(OverBudget, match=r"would cost \$0\.0775"):
        fleet.submit("poem", {"about": "x"}, complexity=0.5, model="gpt-5", max_cost_usd=0.05)


def test_the_status_looks_at_the_sandbox_for_it(fleet: Fleet) -> None:
    assert [part.name for part in sandbox_parts(fleet.settings)] == ["sandbox"]
