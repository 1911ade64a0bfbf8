"""`fleet ...` as it is typed, in this process: a process of its own costs each test a second."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import traceback
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from fleet.cli.main import main


def run_fleet(
    *arguments: str, folder: Path, environment: dict[str, str] | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder. Returns its exit status and output, as `subprocess.run` does.

    `environment` replaces the variables of this process while the command runs. An error that the
    command does not catch is a traceback on the error stream and status 1, as in a process.
    """
    out, err = _stream(), _stream()
    read = io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8")
    variables = dict(os.environ if environment is None else environment)
    with (
        patch.dict(os.environ, variables, clear=True),
        patch.object(sys, "argv", ["fleet", *arguments]),
        patch.object(sys, "stdin", read),
        chdir(folder),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        status = _status()
    return subprocess.CompletedProcess(["fleet", *arguments], status, _text(out), _text(err))


def _stream() -> io.TextIOWrapper:
    """With a buffer, as some commands write bytes to it."""
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)


def _text(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


def _status() -> int:
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except Exception:
        traceback.print_exc()
        return 1
    return 0
