"""The notice by which the processes of a worker hear of its end."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from fleet.worker.shutdown import Notice


def open_ends(pipe: str) -> int:
    """How many ends of a pipe this process has. Other threads open and close files meanwhile."""
    return sum(os.path.realpath(each).endswith(pipe) for each in Path("/proc/self/fd").iterdir())


def test_a_notice_is_heard_once_and_leaves_no_file_open() -> None:
    notice, heard = Notice(), threading.Event()
    pipe = str(Path(f"/proc/self/fd/{notice._read}").readlink())
    notice.watch(heard.set)
    assert not heard.wait(0.1)
    assert open_ends(pipe) == 2
    notice.give()
    notice.give()
    assert heard.wait(5)
    assert open_ends(pipe) == 0
