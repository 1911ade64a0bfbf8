"""The notice by which the processes of a worker hear of its end."""

from __future__ import annotations

import threading
from pathlib import Path

from fleet.runtime.ending import Notice


def test_a_notice_is_heard_once_and_leaves_no_file_open() -> None:
    before = set(Path("/proc/self/fd").iterdir())
    notice, heard = Notice(), threading.Event()
    notice.watch(heard.set)
    assert not heard.wait(0.1)
    notice.give()
    notice.give()
    assert heard.wait(5)
    assert set(Path("/proc/self/fd").iterdir()) <= before
