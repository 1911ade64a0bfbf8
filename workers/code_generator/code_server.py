"""Runs the generated code, and serves the operations of the tests over stdin and stdout.

This file is not imported. The agent runs its text in a separate sandbox. Nothing depends on trust
in the code: whatever the code does in this process, it can only answer requests.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

sys.path.insert(0, os.getcwd())  # noqa: PTH109

if TYPE_CHECKING:
    from workers.code_generator.wire import Peer
else:  # beside this file, in the sandbox
    from wire import Peer


PRINTED_CHARACTERS = 1_000_000


class CodeSide(Peer):
    """Serves the operations of the tests. The code's prints go to their output before the
    answer."""

    def __init__(self, reading: IO[bytes], writing: IO[bytes]) -> None:
        super().__init__(reading, writing)
        self.printed = sys.stdout = io.StringIO()

    def _send(self, message: list[Any]) -> None:
        if text := self.printed.getvalue()[:PRINTED_CHARACTERS]:
            self.printed.seek(0)
            self.printed.truncate()
            self.ask("print", text)
        super()._send(message)

    def imported(self, module: str, name: str) -> Any:
        found: Any = importlib.import_module(module)
        for part in name.split(".") if name else ():
            found = getattr(found, part)
        return found


class LoadedCode:
    """The first object that the tests get."""

    def __init__(self, module: str) -> None:
        self.module = module

    def load(self) -> dict[str, Any]:
        """The names of the module, once it is loaded."""
        found = vars(importlib.import_module(self.module))
        return {name: each for name, each in found.items() if not name.startswith("__")}

    def look_up(self, name: str) -> Any:
        return getattr(importlib.import_module(self.module), name)


def main() -> None:
    order = json.loads(Path("order.json").read_text(encoding="utf-8"))
    reading, writing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)  # what the code prints must not mix with its answers
    side = CodeSide(reading, writing)
    side.encoded_object(LoadedCode(order["module"]))  # number 0
    side.serve()
    os._exit(0)


if __name__ == "__main__":
    main()
