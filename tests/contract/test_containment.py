"""Nothing that docs/sandbox.md says is kept from a program gets through, in each isolation."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import socket
import socketserver
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from containment import BEGIN, BOUNDS, DOCS, END, MODES, PROBES, program, table
from missing import need_isolation

from fleet.sandbox import Mode, SandboxLimits, SandboxResult, run_python
from fleet.sandbox.removal import remove_folder

IPC_CREAT, IPC_RMID = 0o1000, 0
ADD_KEY = {"x86_64": 248, "aarch64": 217}
LEAST_CHECKS = 70
MEBIBYTE = 1024 * 1024
LIBC = ctypes.CDLL(None, use_errno=True)


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Mode:
    chosen: Mode = request.param
    need_isolation(chosen)
    return chosen


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        if isinstance(self.request, tuple):
            self.request[1].sendto(self.request[0], self.client_address)
        else:
            self.request.sendall(self.request.recv(1))


class IPv6Server(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What listens on the host, and would answer."""
    name = f"fleet-check-{os.getpid()}"
    made = {
        "tcp": socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo),
        "udp": socketserver.ThreadingUDPServer(("127.0.0.1", 0), Echo),
        "unix": socketserver.ThreadingUnixStreamServer(str(tmp_path / "s"), Echo),
        "abstract": socketserver.ThreadingUnixStreamServer(f"\0{name}", Echo),
    }
    if socket.has_dualstack_ipv6():
        made["tcp6"] = IPv6Server(("::1", 0), Echo)
    with ExitStack() as stack:
        for server in made.values():
            stack.enter_context(server)
            stack.callback(server.shutdown)
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        found: dict[str, Any] = {
            key: list(server.server_address)[:2] for key, server in made.items() if key[:2] != "un"
        }
        yield {"tcp6": ["::1", 9], **found, "unix": str(tmp_path / "s"), "abstract": name}


@pytest.fixture
def ipc_key() -> Iterator[int]:
    """Shared memory, a queue and a semaphore of the worker's, under one key."""
    key = 0x4600_0000 + os.getpid() % 0x10000
    mode = IPC_CREAT | 0o666
    memory, queue = LIBC.shmget(key, 4096, mode), LIBC.msgget(key, mode)
    semaphore = LIBC.semget(key, 1, mode)
    yield key
    LIBC.shmctl(memory, IPC_RMID, None)
    LIBC.msgctl(queue, IPC_RMID, None)
    LIBC.semctl(semaphore, 0, IPC_RMID)


def _holds_python(folder: Path) -> bool:
    return any(Path(prefix).is_relative_to(folder) for prefix in (sys.prefix, sys.base_prefix))


@pytest.fixture
def given(
    servers: dict[str, Any], ipc_key: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    monkeypatch.setenv("FLEET_CANARY", "of the worker")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder.is_relative_to(tempfile.gettempdir()):
            folder.chmod(0o777 if folder != Path(tempfile.gettempdir()) else 0o1777)
    for name in ("canary", "spare", "doomed"):
        (tmp_path / name).write_text("of the worker")
        (tmp_path / name).chmod(0o666)
    in_tmp = tempfile.NamedTemporaryFile(prefix="fleet-check-")  # noqa: SIM115
    Path(in_tmp.name).chmod(0o666)
    number = ADD_KEY.get(os.uname().machine)
    if number:  # where the kernel has keys
        LIBC.syscall(number, b"user", b"fleet-canary", b"x", 1, -3)
    yield {
        **servers,
        "key": ipc_key,
        "worker": os.getpid(),
        "folder": str(tmp_path),
        **{name: str(tmp_path / name) for name in ("canary", "spare", "doomed")},
        "source": __file__,
        "home": str(Path.home()),
        "in_home": [each.name for each in Path.home().iterdir() if not _holds_python(each)],
        "group": os.getpgid(0),
        "installed": pytest.__file__,
        "in_tmp": in_tmp.name,
        "host": socket.gethostname(),
    }
    in_tmp.close()


def run(text: str, mode: Mode, stdin: str = "", **limits: Any) -> SandboxResult:
    return asyncio.run(run_python(text, stdin=stdin, limits=SandboxLimits(**limits), mode=mode))


def test_every_check_holds(mode: Mode, given: dict[str, Any]) -> None:
    ended = run(program(), mode, json.dumps(given), wall_seconds=30, cpu_seconds=20)
    assert ended.exit_code == 0, ended
    through = set(json.loads(ended.stdout.splitlines()[-1]))
    allowed = {check.what for check in PROBES if mode in check.through}
    assert through - allowed == set()
    if mode == "bubblewrap":
        assert allowed == set()


def test_the_checks_find_what_is_open(given: dict[str, Any]) -> None:
    """Without a sandbox most of them get through, or they would show nothing."""
    import subprocess

    ended = subprocess.run(
        [
            sys.executable,
            "-I",
            "-c",
            f"import os; os.chdir({given['folder']!r})\n{UNHARMED}{program()}",
        ],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    through = set(json.loads(ended.stdout.splitlines()[-1]))
    expected = {check.what for check in PROBES if "rlimits" in check.through}
    found = through & expected
    assert len(found) >= 0.7 * len(expected), expected - found


# Outside a sandbox, as root, some would do what they try.
UNHARMED = """
import ctypes
class Refusing:
    def __getattr__(self, name):
        return lambda *args: -1
real = ctypes.CDLL
def cdll(*args, **named):
    library = real(*args, **named)
    for name in ("mount", "umount2", "sethostname", "unshare"):
        setattr(library, name, lambda *args: -1)
    return library
ctypes.CDLL = cdll
def refuse(*args):
    raise PermissionError
import time
time.clock_settime = os.chroot = os.setuid = os.setgid = os.setgroups = os.mknod = refuse
os.sched_setscheduler = os.setpriority = refuse
real_open = open
def open(path, mode="r"):
    if any(c in mode for c in "wa+") and not str(path).startswith(os.getcwd()):
        raise PermissionError
    return real_open(path, mode)
"""


def test_the_docs_have_the_table_of_the_checks() -> None:
    text = DOCS.read_text(encoding="utf-8")
    written = text.split(BEGIN)[1].split(END)[0].strip()
    assert written == table(), "write it anew: python tests/contract/containment.py"
    for name in MODES:
        kept = [check for check in (*PROBES, *BOUNDS) if name not in check.through]
        assert len(PROBES) + len(BOUNDS) >= LEAST_CHECKS
        assert name == "rlimits" or len(kept) >= LEAST_CHECKS
    assert all("bubblewrap" not in check.through for check in (*PROBES, *BOUNDS))
    assert len({check.what for check in PROBES}) == len(PROBES)


CHILDREN = """
import os, time
for _ in range(6):
    if os.fork() == 0:
        held = bytearray(60 * 2**20)
        for place in range(0, len(held), 4096):
            held[place] = 1
        time.sleep(30)
time.sleep(30)
"""
MEMORY_FILES = """
import os, time
held = []
while len(held) < 40:
    held.append(os.memfd_create("x"))
    os.write(held[-1], b"x" * (8 * 2**20))
time.sleep(30)
"""
SHARED = """
import ctypes, time
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
for _ in range(40):
    segment = libc.shmget(0, 8 * 2**20, 0o1600)
    if segment < 0:
        raise SystemExit("refused")
    place = libc.shmat(segment, None, 0)
    ctypes.memset(place, 1, 8 * 2**20)
    libc.shmdt(ctypes.c_void_p(place))
time.sleep(30)
"""
HIDING = """
import ctypes, time
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
time.sleep(30)
"""
MANY_FILES = """
import time
for number in range(3000):
    open(f"{number}", "w").close()
time.sleep(30)
"""


@pytest.mark.parametrize(
    ("text", "limit", "limits"),
    [
        (CHILDREN, "memory", {"total_memory_bytes": 200 * MEBIBYTE}),
        (MANY_FILES, "files", {"files": 500}),
    ],
)
def test_the_run_as_a_whole_is_bounded(
    mode: Mode, text: str, limit: str, limits: dict[str, int]
) -> None:
    ended = run(text, mode, wall_seconds=20, **limits)
    # The library of Landlock ends it by itself, and does not say why.
    assert ended.killed_by == limit or (mode == "landlock" and ended.killed_by == "signal")
    assert ended.seconds < 15


@pytest.mark.parametrize("text", [MEMORY_FILES, SHARED, HIDING])
def test_memory_cannot_be_hidden(text: str, mode: Mode) -> None:
    if mode == "rlimits" or (mode == "landlock" and text == HIDING):
        pytest.skip("not promised of this isolation")
    ended = run(text, mode, wall_seconds=20, total_memory_bytes=150 * MEBIBYTE)
    refused = "refused" in ended.stderr
    assert refused or ended.killed_by in ("memory", "signal"), ended
    assert ended.seconds < 15


def test_many_files_together_are_bounded(mode: Mode) -> None:
    text = "import time\nfor i in range(40): open(f'{i}', 'wb').write(b'x' * 2**19)\ntime.sleep(30)"
    ended = run(text, mode, wall_seconds=20, file_bytes=4 * MEBIBYTE)
    assert "No space left" in ended.stderr or ended.killed_by == "disk"


def test_nothing_lives_on_after_its_supervisor(mode: Mode) -> None:
    word = f"orphan-{os.getpid()}-{mode}"
    text = f"""
import os, signal, subprocess, sys, time
subprocess.Popen([sys.executable, "-I", "-c", "import time; time.sleep(60)", {word!r}],
                 start_new_session=True)
for number in (os.getppid(), 1):
    try:
        os.kill(number, signal.SIGKILL)
    except OSError:
        pass
time.sleep(0.5)
"""
    if mode == "rlimits":
        pytest.skip("not promised of this isolation")
    run(text, mode, wall_seconds=15)
    deadline = psutil.time.monotonic() + 10
    while any(word in (p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])):
        assert psutil.time.monotonic() < deadline, "it lives on"


LEAVINGS = """
import os
os.makedirs("closed/inner")
open("closed/inner/file", "w").close()
os.symlink("/", "link")
os.mkfifo("pipe")
open("\\udcff\\n -rf", "w").close()
for _ in range(DEPTH):
    os.mkdir("d" * 100)
    os.chdir("d" * 100)
open("deep", "w").close()
os.chdir("/")
os.fchmod(os.open(HERE + "/closed/inner", os.O_RDONLY), 0)
os.fchmod(os.open(HERE + "/closed", os.O_RDONLY), 0)
"""


def test_whatever_a_program_leaves_is_removed(
    mode: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # other runs use the usual one
    text = "import os\nDEPTH, HERE = 300, os.getcwd()\n" + LEAVINGS
    ended = run(text, mode)
    assert ended.exit_code == 0, ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_any_shape_can_be_removed(tmp_path: Path) -> None:
    place = tmp_path / "sandbox"
    place.mkdir()
    here = Path.cwd()
    try:
        os.chdir(place)
        exec(f"DEPTH, HERE = 1500, {str(place)!r}\n{LEAVINGS}")
    finally:
        os.chdir(here)
    remove_folder(place)
    assert not place.exists()
