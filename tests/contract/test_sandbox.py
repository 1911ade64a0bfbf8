"""The sandbox with real programs: every limit bites, and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import billiard
import psutil
import pytest
from missing import need_isolation

from fleet.errors import InvalidRequest
from fleet.sandbox import (
    Mode,
    SandboxLimits,
    SandboxResult,
    isolation_for,
    run_python,
)

MEBIBYTE = 1024 * 1024


def run(program: str, mode: Mode = "auto", stdin: str = "", **limits: Any) -> SandboxResult:
    return asyncio.run(run_python(program, stdin=stdin, limits=SandboxLimits(**limits), mode=mode))


def wait_until(holds: Callable[[], bool], seconds: float = 10) -> None:
    """For what the kernel does a moment later, such as burying a killed process."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.02)


def processes_with(argument: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if argument in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def sandbox_folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("fleet-sandbox-*"))


@pytest.fixture
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other runs on this machine use the usual place."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture(params=["bubblewrap", "landlock", "rlimits"])
def mode(request: pytest.FixtureRequest) -> Mode:
    need_isolation(request.param)
    chosen: Mode = request.param
    return chosen


@pytest.fixture
def unique_word(request: pytest.FixtureRequest) -> Iterator[str]:
    """An argument by which a test finds the processes that it caused."""
    word = f"word-{os.getpid()}-{abs(hash(request.node.name))}"
    yield word
    for process in processes_with(word):
        process.kill()


def test_a_program_gets_its_input_and_gives_its_output_and_exit_status(mode: Mode) -> None:
    program = "import sys; print(input()[::-1]); print('oh', file=sys.stderr); sys.exit(3)"
    ended = run(program, mode, stdin="abc\n")
    assert (ended.stdout, ended.stderr, ended.exit_code) == ("cba\n", "oh\n", 3)
    assert (ended.killed_by, ended.timed_out, ended.isolation) == (None, False, mode)


def test_files_stand_beside_the_program_and_installed_packages_can_be_imported(mode: Mode) -> None:
    # An interpreter below /tmp has its folder there too.
    program = (
        "import sys, os; sys.path.insert(0, os.getcwd())\n"
        "import pyperf, extra; print(extra.x, sorted(filter(os.path.isfile, os.listdir())))"
    )
    ended = asyncio.run(run_python(program, files={"extra.py": "x = 'ä'\n"}, mode=mode))
    assert ended.stdout == "ä ['extra.py', 'program.py']\n", ended.stderr


def test_a_file_outside_the_folder_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no plain file name"):
        asyncio.run(run_python("", files={"../escaped.py": ""}))


def test_the_environment_of_the_worker_is_not_seen(
    mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    program = """
import os
seen = {**os.environ}
for pid in filter(str.isdigit, os.listdir('/proc')):
    if int(pid) in (os.getpid(), os.getppid()):
        try:
            seen[pid] = open(f'/proc/{pid}/environ').read()
        except PermissionError:
            seen[pid] = 'hidden'
print(seen)
"""
    ended = run(program, mode)
    assert "TMPDIR" in ended.stdout, ended.stderr
    for foreign in ("sk-secret", "PATH", "HOME", "FLEET"):
        assert foreign not in ended.stdout


def test_a_busy_loop_is_stopped_by_its_cpu_time(mode: Mode) -> None:
    ended = run("while True: pass", mode, cpu_seconds=1, wall_seconds=20)
    assert ended.killed_by == "cpu"
    assert ended.seconds < 15


def test_a_busy_loop_that_ignores_the_warning_is_killed_all_the_same(mode: Mode) -> None:
    program = "import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    ended = run(program, mode, cpu_seconds=1, wall_seconds=20)
    assert (ended.killed_by, ended.exit_code) == ("cpu", -9)


def test_a_program_that_wants_too_much_memory_gets_a_memory_error(mode: Mode) -> None:
    ended = run("x = bytearray(600 * 2**20)", mode, memory_bytes=256 * MEBIBYTE)
    assert ended.exit_code == 1
    assert "MemoryError" in ended.stderr


def test_a_file_cannot_grow_over_its_limit(mode: Mode) -> None:
    program = "open('big', 'wb').write(b'x' * (8 * 2**20))"
    ended = run(program, mode, file_bytes=MEBIBYTE)
    assert ended.exit_code == 1
    assert "OSError" in ended.stderr


def test_many_small_files_cannot_fill_the_memory_under_bubblewrap() -> None:
    need_isolation("bubblewrap")
    program = "for i in range(99): open(f'{i}', 'wb').write(b'x' * 2**19)"
    ended = run(program, "bubblewrap", file_bytes=4 * MEBIBYTE)
    assert "No space left on device" in ended.stderr


def test_only_so_many_files_are_open_at_once(mode: Mode) -> None:
    ended = run("kept = [open('/dev/null') for _ in range(100)]", mode, open_files=32)
    assert "Too many open files" in ended.stderr


def test_only_so_many_processes_run_at_once(mode: Mode) -> None:
    program = """
import os, time
count = 1
try:
    while count < 60:
        if os.fork() == 0:
            time.sleep(60)
        count += 1
except OSError as error:
    print(count, type(error).__name__)
"""
    ended = run(program, mode, processes=8)
    assert ended.stdout == "8 BlockingIOError\n", ended


def test_a_fork_bomb_that_does_not_give_up_stays_small_and_ends_in_time(mode: Mode) -> None:
    program = """
import os, time
deadline = time.monotonic() + 30
while time.monotonic() < deadline:
    try:
        os.fork()
        print('forked', flush=True)
    except OSError:
        pass
"""
    ended = run(program, mode, processes=8, wall_seconds=1.5)
    assert ended.killed_by == "time"
    assert ended.seconds < 10
    assert ended.stdout.count("forked") <= 20


def test_threads_may_be_started(mode: Mode) -> None:
    program = """
import threading
threads = [threading.Thread(target=print, args=('a thread',)) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    assert run(program, mode).stdout.count("a thread") == 4


def test_output_is_kept_in_bounds_with_its_beginning_and_its_end(mode: Mode) -> None:
    program = "print('first'); print('x' * 10_000_000); print('last')"
    ended = run(program, mode, output_bytes=2000)
    assert ended.stdout.startswith("first\n")
    assert ended.stdout.endswith("last\n")
    assert "bytes left out" in ended.stdout
    assert len(ended.stdout) < 2100


def sleeper(word: str) -> str:
    """A program that becomes a process with this argument, and sleeps."""
    return f"""
import os, sys
os.execv(sys.executable, [sys.executable, '-I', '-c', 'import time; time.sleep(60)', {word!r}])
"""


def grandchildren(word: str, *, daemon: bool = False) -> str:
    """A program whose grandchild sleeps, in a session of its own if it is a daemon."""
    return f"""
import subprocess, sys, time
sleeper = [sys.executable, '-I', '-c', 'import time; time.sleep(60)', {word!r}]
starter = f'import subprocess; subprocess.Popen({{sleeper!r}}, start_new_session={daemon})'
subprocess.run([sys.executable, '-I', '-c', starter])
print('started', flush=True)
if not {daemon}:
    time.sleep(60)
"""


def test_a_timeout_kills_the_grandchildren_too(mode: Mode, unique_word: str) -> None:
    # A busy machine may need longer to start three processes.
    for seconds in (1.5, 6, 24):
        ended = run(grandchildren(unique_word), mode, wall_seconds=seconds)
        assert (ended.killed_by, ended.timed_out) == ("time", True)
        if ended.stdout:
            break
    assert ended.stdout == "started\n"
    wait_until(lambda: not processes_with(unique_word))


def test_a_daemon_that_left_the_group_does_not_outlive_the_program(
    mode: Mode, unique_word: str
) -> None:
    ended = run(grandchildren(unique_word, daemon=True), mode)
    assert (ended.stdout, ended.exit_code) == ("started\n", 0), ended.stderr
    wait_until(lambda: not processes_with(unique_word))


def test_a_cancelled_run_is_killed_before_the_cancellation_goes_on(
    mode: Mode, unique_word: str, own_folders: None
) -> None:
    async def cancel_when_it_runs() -> None:
        limits = SandboxLimits(wall_seconds=60)
        running = asyncio.create_task(run_python(sleeper(unique_word), limits=limits, mode=mode))
        await asyncio.to_thread(wait_until, lambda: bool(processes_with(unique_word)))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    before = sandbox_folders()
    asyncio.run(cancel_when_it_runs())
    wait_until(lambda: not processes_with(unique_word))
    assert sandbox_folders() <= before


def test_a_run_cancelled_at_any_moment_leaves_neither_process_nor_folder(
    mode: Mode, unique_word: str, own_folders: None
) -> None:
    async def cancel_after(seconds: float) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds):
                await run_python(sleeper(unique_word), mode=mode)

    isolation_for(mode)
    before = sandbox_folders()
    for seconds in (0.0, 0.01, 0.05, 0.2):
        asyncio.run(cancel_after(seconds))
    wait_until(lambda: not processes_with(unique_word))
    assert sandbox_folders() <= before


def test_it_works_on_an_event_loop_in_a_thread() -> None:
    ended: list[SandboxResult] = []
    thread = threading.Thread(target=lambda: ended.append(run("print('in a thread')")))
    thread.start()
    thread.join(30)
    assert [result.stdout for result in ended] == ["in a thread\n"]


def _answer_from_a_daemon(answers: Any) -> None:
    answers.put(run("print('in a pool child')").stdout)


def test_it_works_in_a_daemon_process_such_as_a_prefork_child() -> None:
    fork = billiard.get_context("fork")
    answers = fork.Queue()
    child = fork.Process(target=_answer_from_a_daemon, args=(answers,), daemon=True)
    child.start()
    assert answers.get(timeout=30) == "in a pool child\n"
    child.join(10)


def test_runs_side_by_side_do_not_disturb_each_other() -> None:
    async def several() -> list[str]:
        runs = (run_python(f"print({number})") for number in range(6))
        return [ended.stdout for ended in await asyncio.gather(*runs)]

    assert asyncio.run(several()) == [f"{number}\n" for number in range(6)]


def test_under_bubblewrap_there_is_no_network_and_no_file_of_the_host() -> None:
    need_isolation("bubblewrap")
    program = f"""
import os, socket
print(sorted(name for _, name in socket.if_nameindex()), os.path.exists('/etc/passwd'))
print(os.path.exists({__file__!r}), len([p for p in os.listdir('/proc') if p.isdigit()]) < 5)
for path in ('/usr/x', {os.__file__!r}, '/x', 'program.py'):
    try:
        open(path, 'w')
    except OSError as error:
        print(type(error).__name__)
"""
    lines = run(program, "bubblewrap").stdout.splitlines()
    assert lines[:2] == ["['lo'] False", "False True"]
    assert len(lines) == 6, lines
