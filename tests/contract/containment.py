"""What a sandboxed program tries to reach, as data: the table of docs/sandbox.md is made of it.

Each check is a few lines of Python that only look or knock. They run inside the sandbox, where
`given` says what the test has laid out for them; `reached` is to be true where they got through,
and any exception means that they did not. `python tests/contract/containment.py` writes the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs" / "sandbox.md"
BEGIN, END = "<!-- checks: begin -->", "<!-- checks: end -->"
MODES = ("bubblewrap", "landlock", "rlimits")
BARE = ("rlimits",)
OUTSIDE_NAMES = ("landlock", "rlimits")

PRELUDE = """
import ctypes, errno, json, os, resource, signal, socket, stat, sys, time
libc = ctypes.CDLL(None, use_errno=True)
X86 = os.uname().machine == "x86_64"
def call(x86, arm, *words):
    return libc.syscall(x86 if X86 else arm, *words) >= 0
def status(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(name + ":"))
def opens(path, mode="rb"):
    open(path, mode).close()
    return True
def raises_limit(kind):
    soft, hard = resource.getrlimit(kind)
    if hard == resource.RLIM_INFINITY:
        return True
    resource.setrlimit(kind, (soft, hard + 1))
    return True
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One attempt: what it tries, in words, and how; the modes that may let it through."""

    what: str
    how: str
    through: tuple[str, ...] = ()


FILES = (
    Check("read a file of the worker's user", 'reached = opens(given["canary"])', BARE),
    Check("list its folder", 'reached = os.listdir(given["folder"])', BARE),
    Check("see that it exists", 'os.stat(given["canary"]); reached = True', OUTSIDE_NAMES),
    Check("write to it", 'reached = opens(given["canary"], "ab")', BARE),
    Check("write a file beside it", 'reached = opens(given["canary"] + ".new", "wb")', BARE),
    Check("make a folder beside it", 'os.mkdir(given["canary"] + ".dir"); reached = True', BARE),
    Check("rename it", 'os.rename(given["spare"], given["spare"] + ".old"); reached = True', BARE),
    Check("delete one", 'os.unlink(given["doomed"]); reached = True', BARE),
    Check("change its permissions", 'os.chmod(given["canary"], 0o600); reached = True', BARE),
    Check("change its times", 'os.utime(given["canary"]); reached = True', BARE),
    Check(
        "read it through a symbolic link",
        'os.symlink(given["canary"], "link"); reached = opens("link")',
        BARE,
    ),
    Check(
        "read it through a hard link",
        'os.link(given["canary"], "hard"); reached = opens("hard")',
        BARE,
    ),
    Check("read it by a path with dots", 'reached = opens("../" * 12 + given["canary"])', BARE),
    Check(
        "read it through its own root in /proc",
        'reached = opens("/proc/self/root" + given["canary"])',
        BARE,
    ),
    Check(
        "read it through the first process's root",
        'reached = opens("/proc/1/root" + given["canary"])',
        BARE,
    ),
    Check(
        "read it through the worker's root",
        'reached = opens(f"/proc/{given[\'worker\']}/root" + given["canary"])',
        BARE,
    ),
    Check("read the project's own files", 'reached = opens(given["source"])', BARE),
    Check(
        "find something in the worker's home",
        'reached = set(os.listdir(given["home"])) & set(given["in_home"])',
        BARE,
    ),
    Check("read /etc/passwd", 'reached = opens("/etc/passwd")', BARE),
    Check("read /etc/machine-id", 'reached = opens("/etc/machine-id")', BARE),
    Check("read /etc/resolv.conf", 'reached = opens("/etc/resolv.conf")', BARE),
    Check("list /var", 'reached = os.listdir("/var")', BARE),
    Check("list /run", 'reached = os.listdir("/run")', BARE),
    Check("list /sys", 'reached = os.listdir("/sys")', BARE),
    Check("list /home", 'os.listdir("/home"); reached = True', BARE),
    Check("write to /usr", 'reached = opens("/usr/fleet-check", "wb")'),
    Check("write to /", 'reached = opens("/fleet-check", "wb")'),
    Check(
        "write to the interpreter's folder",
        'reached = opens(os.path.join(sys.prefix, "fleet-check"), "wb")',
        BARE,
    ),
    Check(
        "change an installed module",
        'reached = opens(os.path.join(given["installed"]), "ab")',
        BARE,
    ),
    Check("write to /dev/shm", 'reached = opens("/dev/shm/fleet-check", "wb")', BARE),
    Check("write to a file in the host's /tmp", 'reached = opens(given["in_tmp"], "r+b")', BARE),
    Check("find a descriptor of the worker's", "reached = [n for n in range(3, 64) if open_(n)]"),
)
DEVICES = (
    Check("open the terminal", 'reached = opens("/dev/tty")'),
    Check("read the kernel's memory", 'reached = opens("/dev/mem")'),
    Check("read the kernel's log", 'reached = opens("/dev/kmsg")', BARE),
    Check("open the device of FUSE", 'reached = opens("/dev/fuse", "r+b")', BARE),
    Check("open the device of KVM", 'reached = opens("/dev/kvm", "r+b")', BARE),
    Check(
        "find a disk",
        'reached = [n for n in os.listdir("/dev") if n[:2] in ("sd", "vd", "nv", "dm")]',
        BARE,
    ),
    Check(
        "make a device", 'os.mknod("disk", stat.S_IFBLK | 0o600, os.makedev(8, 0)); reached = True'
    ),
)
PROCESSES = (
    Check(
        "read the worker's environment",
        'reached = open(f"/proc/{given[\'worker\']}/environ", "rb").read()',
        BARE,
    ),
    Check(
        "read its parent's environment",
        'reached = open(f"/proc/{os.getppid()}/environ", "rb").read()',
    ),
    Check("find a secret in its own environment", 'reached = "FLEET_CANARY" in os.environ'),
    Check(
        "find a secret in any environment",
        "reached = any(secret_in(n) for n in os.listdir('/proc') if n.isdigit())",
        BARE,
    ),
    Check(
        "see the worker",
        "reached = os.path.exists(f\"/proc/{given['worker']}/stat\")",
        OUTSIDE_NAMES,
    ),
    Check(
        "read the worker's command line",
        "reached = open(f\"/proc/{given['worker']}/cmdline\").read()",
        BARE,
    ),
    Check(
        "read the worker's folder",
        "reached = os.readlink(f\"/proc/{given['worker']}/cwd\")",
        OUTSIDE_NAMES,
    ),
    Check("signal the worker", 'os.kill(given["worker"], 0); reached = True', BARE),
    Check("signal the worker's group", 'os.killpg(given["group"], 0); reached = True', BARE),
    Check(
        "take a handle of the worker",
        'reached = os.pidfd_open(given["worker"]) >= 0',
        OUTSIDE_NAMES,
    ),
    Check("trace its parent", "reached = call(101, 117, 0x4206, os.getppid(), 0, 0)"),
    Check("trace the worker", 'reached = call(101, 117, 0x4206, given["worker"], 0, 0)', BARE),
    Check("read its parent's memory", 'reached = opens(f"/proc/{os.getppid()}/mem")'),
    Check("read the worker's memory", "reached = opens(f\"/proc/{given['worker']}/mem\")", BARE),
    Check("list its parent's descriptors", 'reached = os.listdir(f"/proc/{os.getppid()}/fd")'),
    Check(
        "list the worker's descriptors",
        "reached = os.listdir(f\"/proc/{given['worker']}/fd\")",
        BARE,
    ),
    Check(
        "change the worker's priority",
        'os.setpriority(os.PRIO_PROCESS, given["worker"], 0); reached = True',
        OUTSIDE_NAMES,
    ),
    Check(
        "read the worker's limits",
        'resource.prlimit(given["worker"], resource.RLIMIT_NOFILE); reached = True',
        OUTSIDE_NAMES,
    ),
    Check(
        "make the worker the first to be killed",
        'reached = opens(f"/proc/{given[\'worker\']}/oom_score_adj", "r+")',
        BARE,
    ),
)
NETWORK = (
    Check("reach a TCP port of the host", 'reached = speaks(socket.AF_INET, given["tcp"])', BARE),
    Check("reach a TCP port by IPv6", 'reached = speaks(socket.AF_INET6, given["tcp6"])', BARE),
    Check(
        "reach a UDP port of the host",
        'reached = speaks(socket.AF_INET, given["udp"], socket.SOCK_DGRAM)',
        BARE,
    ),
    Check("reach a Unix socket", 'reached = speaks(socket.AF_UNIX, given["unix"])', BARE),
    Check(
        "reach an abstract Unix socket",
        'reached = speaks(socket.AF_UNIX, "\\0" + given["abstract"])',
        BARE,
    ),
    Check("share a port with the host", 'reached = taken(given["tcp"])', BARE),
    Check(
        "find a network card",
        'reached = [n for _, n in socket.if_nameindex() if n != "lo"]',
        BARE,
    ),
    Check(
        "find a way out",
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        's.connect(("192.0.2.1", 9)); reached = True',
        BARE,
    ),
    Check("open a raw socket", "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); reached = True"),
    Check(
        "open a packet socket",
        "socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0); reached = True",
    ),
    Check(
        "see the host's connections",
        "reached = f':{given[\"tcp\"][1]:04X} ' in open('/proc/net/tcp').read()",
        BARE,
    ),
    Check("learn the host's name", 'reached = socket.gethostname() == given["host"]', BARE),
)
PRIVILEGES = (
    Check("have a capability", 'reached = int(status("CapEff"), 16)'),
    Check("be able to get one by a start", 'reached = int(status("CapPrm"), 16)'),
    Check("hand one on", 'reached = int(status("CapAmb"), 16)'),
    Check("gain by a setuid program", 'reached = status("NoNewPrivs") != "1"'),
    Check("become another user", "os.setuid(os.getuid() + 1); reached = True"),
    Check("become another group", "os.setgid(os.getgid() + 1); reached = True"),
    Check("join a group", "os.setgroups([0]); reached = True"),
    Check(
        "make a user namespace",
        "reached = in_child(lambda: libc.unshare(0x10000000) == 0)",
        BARE,
    ),
    Check("make a mount namespace", "reached = libc.unshare(0x00020000) == 0"),
    Check("make a process namespace", "reached = libc.unshare(0x20000000) == 0"),
    Check("make a network namespace", "reached = libc.unshare(0x40000000) == 0"),
    Check("mount", 'reached = libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0'),
    Check("make / writable", 'reached = libc.mount(None, b"/", None, 0x1020, None) == 0'),
    Check("take a mount away", 'reached = libc.umount2(b"/proc", 2) == 0'),
    Check("change its root", 'os.chroot("."); reached = True'),
    Check("change the host's name", 'reached = libc.sethostname(b"x", 1) == 0'),
    Check("set the clock", "time.clock_settime(time.CLOCK_REALTIME, time.time()); reached = True"),
    Check("load a module into the kernel", "reached = call(175, 105, None, 0, b'')"),
    Check("write a kernel setting", 'reached = opens("/proc/sys/kernel/core_pattern", "r+")'),
    Check("trigger the kernel's keys", 'reached = opens("/proc/sysrq-trigger", "w")'),
    Check(
        "run before all others",
        "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)); reached = True",
    ),
    Check("raise its own priority", "os.setpriority(os.PRIO_PROCESS, 0, -5); reached = True"),
    Check("raise its limit on files", "reached = raises_limit(resource.RLIMIT_NOFILE)"),
    Check("raise its limit on file size", "reached = raises_limit(resource.RLIMIT_FSIZE)"),
    Check("raise its limit on memory", "reached = raises_limit(resource.RLIMIT_AS)"),
    Check("raise its limit on CPU time", "reached = raises_limit(resource.RLIMIT_CPU)"),
    Check("raise its limit on processes", "reached = raises_limit(resource.RLIMIT_NPROC)"),
    Check("leave a core dump", "reached = resource.getrlimit(resource.RLIMIT_CORE)[1] != 0"),
    Check("find a key in the worker's session keyring", "reached = finds_key(-3)"),
    Check(
        "attach shared memory of the worker", 'reached = libc.shmget(given["key"], 0, 0) >= 0', BARE
    ),
    Check(
        "open a message queue of the worker", 'reached = libc.msgget(given["key"], 0) >= 0', BARE
    ),
    Check("open a semaphore of the worker", 'reached = libc.semget(given["key"], 0, 0) >= 0', BARE),
)
HELPERS = """
def open_(number):
    try:
        os.fstat(number)
        return True
    except OSError:
        return False
def secret_in(number):
    try:
        return b"FLEET_CANARY" in open(f"/proc/{number}/environ", "rb").read()
    except OSError:
        return False
def speaks(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as s:
        s.settimeout(1)
        s.connect(tuple(address) if isinstance(address, list) else address)
        s.send(b"x")
        return s.recv(1) == b"x"
def taken(address):
    with socket.socket() as s:
        try:
            s.bind(tuple(address))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False
def in_child(attempt):
    child = os.fork()
    if child == 0:
        os._exit(0 if attempt() else 1)
    return os.waitpid(child, 0)[1] == 0
def finds_key(ring):
    return call(250, 219, 10, ring, b"user", b"fleet-canary", 0)
"""
PROBES = (*FILES, *DEVICES, *PROCESSES, *NETWORK, *PRIVILEGES)

# Held by a limit, and each shown by a run of its own in the tests.
BOUNDS = (
    Check("use more CPU time than it may", "cpu"),
    Check("run longer than it may", "time"),
    Check("write more than its output is kept of", "output"),
    Check("write a file larger than it may", "file"),
    Check("write more than it may in many files", "disk"),
    Check("make more files than it may", "files"),
    Check("open more files than it may", "open files"),
    Check("start more processes than it may", "processes"),
    Check("take more memory in one process", "memory"),
    Check("take more memory in many processes", "memory of children"),
    Check("hide memory in files without a name", "memory files", BARE),
    Check("hide memory in shared segments", "shared memory", BARE),
    Check("leave a process behind that left its group", "daemon"),
    Check("live on after its supervisor", "orphan", BARE),
    Check("leave a folder that nobody may enter", "closed folder"),
    Check("leave a folder that is too deep", "deep folder"),
)
GROUPS = {
    "Files": FILES,
    "Devices": DEVICES,
    "Processes": PROCESSES,
    "Network": NETWORK,
    "Privileges": PRIVILEGES,
    "Bounds": BOUNDS,
}


def program() -> str:
    """The program that makes every probe and prints, as JSON, which ones got through."""
    parts = [PRELUDE, HELPERS, "given = json.loads(sys.stdin.read())\nthrough = []\n"]
    for check in PROBES:
        body = "".join(f"    {line}\n" for line in check.how.splitlines())
        parts.append(
            f"reached = False\ntry:\n{body}except (OSError, ValueError, OverflowError):\n    pass\n"
            f"if reached:\n    through.append({check.what!r})\n"
        )
    parts.append("print(json.dumps(through))\n")
    return "".join(parts)


def table() -> str:
    """The checks as Markdown, with what each mode keeps a program from."""
    lines = ["| a program tries to | " + " | ".join(MODES) + " |", "|---|---|---|---|"]
    for group, checks in GROUPS.items():
        lines.append(f"| **{group}** | | | |")
        for check in checks:
            marks = ("may get through" if mode in check.through else "kept" for mode in MODES)
            lines.append(f"| {check.what} | {' | '.join(marks)} |")
    return "\n".join(lines)


def main() -> None:
    text = DOCS.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    DOCS.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
