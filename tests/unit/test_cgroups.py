"""The control group of a sandbox's run, on folders that stand for the kernel's (fakes).

A fake has the files of a delegated group; a group made in it gets those that are written.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from fleet.sandbox import SandboxLimits, cgroups, run_python
from fleet.sandbox.limits import MEBIBYTE

LIMITS = SandboxLimits(total_memory_bytes=100 * MEBIBYTE, file_bytes=MEBIBYTE, processes=5)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The fake's mount and the worker's membership: below a delegated unit, in its subgroup."""
    unit = tmp_path / "mount" / "unit"
    (unit / "worker").mkdir(parents=True)
    (tmp_path / "mount" / "cgroup.controllers").write_text("cpu memory pids\n")
    (unit / "cgroup.subtree_control").write_text("cpu memory pids\n")
    (unit / "cgroup.procs").write_text("")
    (tmp_path / "membership").write_text("4:memory:/old\n0::/unit/worker\n")
    # The kernel removes a group's files with its folder.
    monkeypatch.setattr(Path, "rmdir", lambda self: shutil.rmtree(self))
    return tmp_path / "mount", tmp_path / "membership"


def test_groups_stand_beside_the_workers_own(fake: tuple[Path, Path]) -> None:
    assert cgroups.parent(*fake) == fake[0] / "unit"
    assert [each.name for each in (fake[0] / "unit").iterdir() if each.is_dir()] == ["worker"]


def test_controllers_are_shared_out_where_they_are_not_yet(fake: tuple[Path, Path]) -> None:
    shared = fake[0] / "unit" / "cgroup.subtree_control"
    shared.write_text("cpu\n")
    assert cgroups.parent(*fake) is not None
    assert shared.read_text() == "+memory +pids"


@pytest.mark.parametrize("missing", ["mount/cgroup.controllers", "mount/unit", "membership"])
def test_no_group_is_made_where_none_is_delegated(fake: tuple[Path, Path], missing: str) -> None:
    path = fake[1].parent / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert cgroups.parent(*fake) is None


def test_a_worker_in_version_1_alone_has_none(fake: tuple[Path, Path]) -> None:
    fake[1].write_text("4:memory:/unit/worker\n")
    assert cgroups.parent(*fake) is None


@pytest.mark.parametrize("unit", ["fleet.service", "session-3.scope", "user.slice"])
def test_a_worker_in_a_unit_itself_makes_none_in_what_is_the_systems(
    fake: tuple[Path, Path], unit: str
) -> None:
    (fake[0] / "unit" / unit).mkdir()
    fake[1].write_text(f"0::/unit/{unit}\n")
    assert cgroups.parent(*fake) is None


def test_a_group_has_the_bounds_of_the_run(fake: tuple[Path, Path]) -> None:
    group = cgroups.Group(fake[0] / "unit", LIMITS, helpers=3)
    held = {each.name: each.read_text() for each in group.folder.iterdir()}
    assert held == {
        "memory.max": str(101 * MEBIBYTE + cgroups.OWN_BYTES),
        "memory.swap.max": "0",
        "pids.max": str(5 + 3 + cgroups.OWN_PROCESSES),
    }


def test_a_run_joins_its_group_which_ends_with_it(
    fake: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, str] = {}
    end = cgroups.Group.end

    async def ended(self: cgroups.Group) -> None:
        seen["joined"] = (self.folder / "cgroup.procs").read_text()
        await end(self)
        seen["folder"] = str(self.folder)

    monkeypatch.setattr(cgroups.Group, "end", ended)
    monkeypatch.setattr(cgroups, "parent", lambda: fake[0] / "unit")
    result = asyncio.run(run_python("print(6 * 7)"))
    assert (result.stdout, result.exit_code) == ("42\n", 0)
    assert seen["joined"] == "0\n"
    assert not Path(seen["folder"]).exists()


def test_a_process_that_the_kernel_killed_for_its_memory_is_told_so(
    fake: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "parent", lambda: fake[0] / "unit")
    monkeypatch.setattr(cgroups.Group, "ran_out_of_memory", lambda self: True)
    program = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    assert asyncio.run(run_python(program)).killed_by == "memory"


def test_events_are_read_as_the_kernel_writes_them(fake: tuple[Path, Path]) -> None:
    group = cgroups.Group(fake[0] / "unit", LIMITS, helpers=0)
    assert not group.ran_out_of_memory()
    (group.folder / "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\n")
    assert group.ran_out_of_memory()


def test_the_kernel_bounds_the_memory_of_a_run() -> None:
    above = cgroups.parent()
    if above is None:
        pytest.skip("no control group with memory and pids is delegated to this process")
    limits = SandboxLimits(total_memory_bytes=64 * MEBIBYTE, memory_bytes=1024 * MEBIBYTE)
    program = "x = bytearray(400 * 1024 * 1024)\nimport time\ntime.sleep(5)"
    assert asyncio.run(run_python(program, limits=limits)).killed_by == "memory"
    assert not list(above.glob("fleet-sandbox-*"))
