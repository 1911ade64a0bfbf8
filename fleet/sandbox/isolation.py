"""The isolation for code on this machine, or the error if there is none."""

from __future__ import annotations

from fleet.errors import NotAllowed
from fleet.sandbox import bubblewrap, landlock, users
from fleet.sandbox.limits import Isolation, Mode

AUTO: tuple[Isolation, ...] = ("bubblewrap", "landlock")
DESCRIPTIONS: dict[Isolation, str] = {
    "bubblewrap": "no network, no file of the host, no other process (Linux namespaces)",
    "landlock": "no network, no file of the host; other processes out of reach (Landlock, seccomp)",
    "rlimits": "limits only: generated code can read files and use the network",
}
ADVICE = (
    "allow user namespaces to the worker (sysctl user.max_user_namespaces above 0, "
    "kernel.apparmor_restrict_unprivileged_userns at 0; in a container, a seccomp profile with "
    "unshare and mount), or run Linux 6.12 or newer with Landlock, or accept bare limits with "
    'sandbox = "rlimits" under [agents]'
)


def isolation_for(mode: Mode) -> Isolation:
    """The isolation of a run in this mode on this machine. `auto` is the strongest that works.

    Raises `NotAllowed` if it does not work: there is never a fallback to limits alone.
    """
    wanted: tuple[Isolation, ...] = AUTO if mode == "auto" else (mode,)
    reasons = []
    for isolation in wanted:
        reason = why_not(isolation)
        if reason is None:
            return isolation
        reasons.append(f"{isolation} does not work: {reason}")
    advice = ADVICE if mode != "rlimits" else "run the worker as a user other than root"
    raise NotAllowed(f"generated code cannot run here: {'; '.join(reasons)}. To run it, {advice}")


def why_not(isolation: Isolation) -> str | None:
    """Why this isolation does not work on this machine; None if it works."""
    if isolation == "bubblewrap":
        return bubblewrap.why_it_does_not_work()
    if isolation == "landlock":
        return landlock.why_it_does_not_work()
    if users.is_root() and users.host_user() is None:
        return "the worker is root and cannot drop root, because only root reaches its interpreter"
    return None
