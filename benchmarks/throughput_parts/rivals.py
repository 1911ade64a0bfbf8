"""The rivals that Fleet does not depend on: their versions, and an environment to run them in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

VENV = Path(__file__).resolve().parents[2] / "build" / "rivals-venv"
PYTHON = VENV / "bin" / "python"

# Fleet and Celery here read Redis's answers with hiredis: so do they.
CLIENT = ("redis==8.1.0", "hiredis==3.5.0")
RIVALS: Mapping[str, tuple[str, ...]] = {
    "dramatiq": ("dramatiq==2.2.1", *CLIENT),
    "taskiq": ("taskiq==0.13.0", "taskiq-redis==1.2.4", *CLIENT),
    "huey": ("huey==3.5.4", *CLIENT),
}
INSTALL_SECONDS = 300


def install_rivals() -> dict[str, str]:
    """Make the environment, or complete it; why a rival could not be installed, by its name.

    Each is installed by itself, so that one that cannot be had leaves the others.
    """
    if not PYTHON.exists():
        print(f"making {VENV} for {', '.join(RIVALS)}", flush=True)
        problem = run(sys.executable, "-m", "venv", "--without-pip", str(VENV))
        if problem:
            return dict.fromkeys(RIVALS, problem)
    found = {name: _install(packages) for name, packages in RIVALS.items()}
    return {name: problem for name, problem in found.items() if problem}


def _install(packages: tuple[str, ...]) -> str:
    pip = (sys.executable, "-m", "pip", "--python", str(PYTHON))
    return run(*pip, "install", "--quiet", "--disable-pip-version-check", *packages)


def run(*command: str) -> str:
    """Run a command; empty, or the last line of what it had to say where it failed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        return f"{command[0]} did not end within {INSTALL_SECONDS} s"
    if done.returncode == 0:
        return ""
    said = (done.stderr or done.stdout).strip().splitlines()
    return said[-1] if said else f"{command[0]} ended with status {done.returncode}"
