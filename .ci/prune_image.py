"""Takes out of the image's environment what no process of a cluster needs.

    /opt/fleet/bin/python prune_image.py --extras anthropic,google

requirements.txt locks the tools of the tests too. All that is locked was installed, with its
hashes. This removes each package that Fleet, with these extras, does not require. Fleet must be
installed.
"""

from __future__ import annotations

import argparse
import compileall
import os
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LEFT_OUT = {"xllamacpp"}
"""The server of the local model, which the image does not hold."""
PARTS = ("kubernetes/aio", "numpy/tests", "numpy/*/tests", "numpy/_core/lib", "numpy/f2py")
"""Large parts of packages that nothing imports: the asyncio twin of the client, tests, headers."""

OWN = ("fleet", "workers", "beat_schedules")
IMPORTED = (
    *("workers.app", "fleet.web.flower", "fleet.web.ops", "fleet.client", "fleet.cli.main"),
    *("fleet.scaling.kubernetes", "fleet.worker.agent_tasks", "openai.resources.chat"),
    *("pydantic_ai.models.openai", "pydantic_ai.providers.openai"),
)
"""What the processes import. Bytecode of everything would take a hundred megabytes."""


def required(extras: set[str]) -> set[str]:
    """The names of all that `fleet` with these extras requires, with itself."""
    found: set[str] = set()
    waiting: list[tuple[str, frozenset[str]]] = [("fleet", frozenset(extras))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen or name in LEFT_OUT:
            continue
        seen.add((name, wanted))
        found.add(name)
        for text in distribution(name).requires or ():
            requirement = Requirement(text)
            if _applies(requirement, wanted):
                waiting.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return found


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *extras})


def remove(found: Distribution) -> None:
    """Delete the files of a package, and its folders that are empty then."""
    folders = set()
    for file in found.files or ():
        path = Path(str(found.locate_file(file)))
        path.unlink(missing_ok=True)
        folders.update((path.parent, *path.parent.parents))
    root = Path(str(found.locate_file("")))
    for folder in sorted(folders, key=lambda each: len(each.parts), reverse=True):
        if root in folder.parents and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def compile_imported(site: Path) -> None:
    """Write the bytecode of Fleet, and of what its processes import. So this also proves that
    nothing was removed that they need."""
    for name in OWN:
        compileall.compile_dir(site / name, quiet=1)
    environment = {"PATH": os.environ["PATH"], "FLEET_POOL": "codegen"}
    subprocess.run(
        [sys.executable, "-c", f"import {', '.join(IMPORTED)}"],
        check=True,
        cwd="/",
        env=environment,
    )


def main() -> None:
    """Prune the environment of the running interpreter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extras", default="", help="extras of fleet, separated by commas")
    extras = {each for each in parser.parse_args().extras.split(",") if each}
    installed = list(distributions())
    kept = required(extras)
    site = Path(str(distribution("fleet").locate_file("")))
    for found in installed:
        if canonicalize_name(found.metadata["Name"]) not in kept:
            remove(found)
    for pattern in PARTS:
        for path in site.glob(pattern):
            shutil.rmtree(path)
    compile_imported(site)


if __name__ == "__main__":
    main()
