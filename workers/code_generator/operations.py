"""The kinds of plain values that two sandboxes exchange, and the operations on all other objects.

This file is in both sandboxes, beside `wire.py`.
"""

from __future__ import annotations

import asyncio
import copy
import operator
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from fractions import Fraction
from pathlib import PosixPath, PurePosixPath
from typing import Any

SEQUENCES: dict[type, str] = {
    **{list: "list", tuple: "tuple", set: "set"},
    **{frozenset: "frozenset", deque: "deque"},
}
MAPPINGS: dict[type, str] = {dict: "dict", Counter: "Counter", OrderedDict: "OrderedDict"}
TEXTS: dict[type, tuple[str, Callable[[Any], str], Callable[[str], Any]]] = {
    int: ("int", hex, lambda text: int(text, 16)),
    float: ("float", float.hex, float.fromhex),
    bytes: ("bytes", bytes.hex, bytes.fromhex),
    bytearray: ("bytearray", bytearray.hex, bytearray.fromhex),
    Decimal: ("Decimal", str, Decimal),
    Fraction: ("Fraction", str, Fraction),
    datetime: ("datetime", datetime.isoformat, datetime.fromisoformat),
    date: ("date", date.isoformat, date.fromisoformat),
    time: ("time", time.isoformat, time.fromisoformat),
    PurePosixPath: ("PurePosixPath", str, PurePosixPath),
    PosixPath: ("PosixPath", str, PosixPath),
}
MAKERS: dict[str, Callable[[Any], Any]] = {
    **{name: make for name, _, make in TEXTS.values()},
    **{name: kind for kind, name in SEQUENCES.items()},
    **{name: kind for kind, name in MAPPINGS.items()},
}
FACTORIES: dict[Any, str] = {kind: kind.__name__ for kind in (int, float, str, list, dict, set)}
PLAIN_BASES = (str, int, float, bytes, tuple, list, dict, set, frozenset)
MUTABLE = (list, dict, set, bytearray, deque, Counter, OrderedDict, defaultdict)
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
ARITHMETIC: tuple[str, ...] = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")
ARITHMETIC += ("and", "or", "xor", "lshift", "rshift")
# One event loop for all awaitables: locks, queues and generators belong to their first loop.
RUNNER = asyncio.Runner()
OPERATIONS: dict[str, Callable[..., Any]] = {
    **{"call": lambda f, *args, **named: f(*args, **named)},
    **{"getattr": getattr, "setattr": setattr, "delattr": delattr, "dir": dir},
    **{"getitem": operator.getitem, "setitem": operator.setitem, "delitem": operator.delitem},
    **{"len": len, "iter": iter, "next": next, "reversed": reversed, "hash": hash},
    **{"str": str, "repr": repr, "format": format, "bool": bool, "bytes": bytes},
    **{"int": int, "float": float, "complex": complex, "index": operator.index},
    **{"abs": abs, "neg": operator.neg, "pos": operator.pos, "invert": operator.invert},
    **{"round": round, "contains": operator.contains},
    **{"isinstance": isinstance, "issubclass": issubclass},
    **{"enter": lambda each: each.__enter__(), "exit": lambda each, *told: each.__exit__(*told)},
    **{"await": lambda each: RUNNER.run(_awaited(each)), "plain": lambda each: plain_of(each)},
    **{"aiter": aiter, "anext": lambda each: RUNNER.run(_awaited(anext(each)))},
    **{"aenter": lambda each: RUNNER.run(_awaited(each.__aenter__()))},
    **{"aexit": lambda each, *told: RUNNER.run(_awaited(each.__aexit__(*told)))},
    **{"copy": copy.copy, "deepcopy": copy.deepcopy},
    **{"give back": lambda each, name, now: change(getattr(each, name), now)},
    **{"print": lambda text: sys.stdout.write(text) and None},
    **{name: getattr(operator, name) for name in COMPARISONS},
    **{name: getattr(operator, f"__{name}__") for name in ARITHMETIC},
}


class Malformed(BaseException):
    """The other side violates the protocol, or has ended.

    No `except Exception` hides this error.
    """


def plain_of(value: Any) -> Any:
    """An object as a plain value, if its class inherits from a plain type with its equality (such
    as a named tuple); else None."""
    base: Any = next((base for base in PLAIN_BASES if isinstance(value, base)), None)
    equality: Any = type(value).__eq__
    return base(value) if base and equality is base.__eq__ else None


async def _awaited(each: Any) -> Any:
    return await each


def is_of_library(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in sys.stdlib_module_names - {"builtins"}


def library_error(module: Any, name: Any) -> type[BaseException] | None:
    """An error class of Python's library, if this side has loaded its module."""
    found = getattr(sys.modules.get(str(module)), str(name), None)
    known = isinstance(found, type) and issubclass(found, BaseException) and is_of_library(found)
    return found if known else None


def change(mine: Any, theirs: Any) -> None:
    """Make a container equal to its changed copy."""
    if type(mine) is not type(theirs) or type(mine) not in MUTABLE:
        raise Malformed("a change to something that cannot change")
    if isinstance(mine, list | bytearray):
        mine[:] = theirs
        return
    mine.clear()
    (mine.extend if isinstance(mine, deque) else mine.update)(theirs)
