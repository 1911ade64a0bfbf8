"""Runs tests on generated code in another process, and reports how many asserts held.

This file is not imported. The agent runs its text with the tests in a separate sandbox, connected
to `code_server.py` in another sandbox. Each assert is decided here, from values that the code
returned. Nothing that the code does in its process, to modules, files, exits or memory, has an
effect here. Objects of the code's own classes are not trusted to compare themselves with a value of
the tests, nor to compute a plain value with one: see docs/sandbox.md.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import collections
import inspect
import io
import json
import os
import reprlib
import sys
import traceback
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

sys.path.insert(0, os.getcwd())  # noqa: PTH109

if TYPE_CHECKING:
    from workers.code_generator.operations import MUTABLE, OPERATIONS, Malformed
    from workers.code_generator.wire import Peer, Remote, as_plain
else:  # beside this file, in the sandbox
    from operations import MUTABLE, OPERATIONS, Malformed
    from wire import Peer, Remote, as_plain

TESTS = "<tests>"
TESTS_MODULE = "tests"
SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = 120
# The attributes of the tests' functions and objects that code may read, beside the public ones.
NAMES = ("__name__", "__qualname__", "__doc__")
IMPORTABLE = (
    *(type, types.FunctionType, types.BuiltinFunctionType),
    *(types.MethodDescriptorType, types.WrapperDescriptorType),
)
ITERATORS: tuple[type, ...] = (
    types.GeneratorType,
    type(iter([])),
    type(iter(())),
    map,
    filter,
    zip,
    enumerate,
    *(type({}.keys()), type({}.values()), type({}.items())),
    *map(
        type, (iter({}), iter({}.values()), iter({}.items()), iter(set()), iter(""), iter(range(0)))
    ),
    *(reversed, type(reversed([]))),
)
# Code may use these objects of the tests, and methods of containers, such as `seen.append`.
LENT_AT_MOST, LENT_ITEMS = 8, 1000
HANDED_OVER = (io.StringIO, io.BytesIO)
METHODS_OF = (list, dict, set, str, collections.deque, *HANDED_OVER)


class Unverifiable(BaseException):
    """The assert would depend on trust in the code. No `except Exception` hides this error."""


@dataclass
class Lent:
    """A list, dict or set that the tests read from an attribute, and its contents at that time."""

    owner: Remote
    name: str
    copy: Any
    seen: Any


class TestSide(Peer):
    """The trusted side: code may use only the tests' own functions and objects."""

    broken = ""
    broke_off = False

    def __init__(self, reading: IO[bytes], writing: IO[bytes]) -> None:
        super().__init__(reading, writing)
        self.lent: collections.deque[Lent] = collections.deque(maxlen=LENT_AT_MOST)

    def ask(self, name: str, *operands: Any, **named: Any) -> Any:
        try:
            self._give_back()
            found = super().ask(name, *operands, **named)
            if name == "getattr" and type(found) in MUTABLE and len(found) <= LENT_ITEMS:
                self.lent.append(Lent(operands[0], operands[1], found, self.encoded(found)))
            return found
        except Malformed as error:  # the tests may catch it, and hold it for the code's own
            self.broken, self.broke_off = self.broken or str(error), True
            raise

    def _give_back(self) -> None:
        """Apply the tests' changes of copies to the attributes of the code's objects."""
        for each in list(self.lent):
            if (now := self.encoded(each.copy)) != each.seen:
                each.seen = now
                super().ask("give back", each.owner, each.name, each.copy)

    def encoded_exception(self, error: BaseException) -> list[Any]:
        """The exception for the code, which may swallow it, except for a failure of the tests."""
        if isinstance(error, AssertionError) and "_theirs" not in error.__dict__:
            self.broken = self.broken or f"an assert of the tests failed: {error}"
        return super().encoded_exception(error)

    def refuse(self, reason: str) -> Unverifiable:
        self.broken = self.broken or reason
        return Unverifiable(reason)

    def compare(self, name: str, one: Any, other: Any) -> Any:
        if other is None and name in ("eq", "ne"):
            return name == "ne"
        if not isinstance(other, Remote):
            raise self.refuse(
                f"an object of the code's own class {one._kind} would decide by itself "
                f"whether it compares with {SHORT.repr(other)}; compare plain values"
            )
        return self.ask(name, one, other)

    def compute(self, name: str, one: Any, other: Any, own: Any) -> Any:
        result = self.ask(name, one, other)
        if isinstance(own, Remote) or isinstance(result, Remote):
            return result
        if all(not isinstance(each, Remote) or each._is_plain for each in (one, other)):
            return OPERATIONS[name](as_plain(one), as_plain(other))
        kind = next(each._kind for each in (one, other) if isinstance(each, Remote))
        raise self.refuse(
            f"an object of the code's own class {kind} would decide by itself what comes out "
            f"with {SHORT.repr(own)}; compute with plain values"
        )

    def error_name(self, kind: type[BaseException]) -> Any:
        if any(kind is each for each in self.remotes.values()):
            return self.encoded_object(kind)
        known = (each for each in kind.__mro__ if getattr(builtins, each.__name__, None) is each)
        return ["builtin", next(known).__name__]

    def guard(self, name: str, operands: list[Any]) -> None:
        target, *rest = operands
        if isinstance(target, ITERATORS) and name in ("iter", "next", "len", "reversed"):
            return
        if name == "print" and type(target) is str:
            return
        if not _of_the_tests(target):
            raise TypeError(f"{name} is not for the code to do here")
        if name in ("getattr", "setattr", "delattr"):
            own = name != "getattr" and isinstance(target, type | types.FunctionType)
            if own or type(rest[0]) is not str or (rest[0][:1] == "_" and rest[0] not in NAMES):
                raise AttributeError(rest[0])

    def encoded_object(self, value: Any) -> Any:
        if type(value) is Remote or any(value is each for each in self.remotes.values()):
            return super().encoded_object(value)
        if _of_the_tests(value) or isinstance(value, ITERATORS):
            return super().encoded_object(value)
        if isinstance(value, types.ModuleType):
            return ["import", value.__name__, ""]
        bound = isinstance(value, types.BuiltinFunctionType) and not isinstance(
            value.__self__, types.ModuleType
        )
        if isinstance(value, IMPORTABLE) and not bound:
            module = getattr(value, "__module__", None) or "builtins"
            return ["import", module, value.__qualname__]
        raise self.refuse(
            f"the tests hand over an object of {type(value).__name__}, which cannot be handed over"
        )


def _of_the_tests(value: Any) -> bool:
    if isinstance(value, types.MethodType):
        return _of_the_tests(value.__self__)
    if isinstance(value, types.BuiltinMethodType):
        return type(value.__self__) in METHODS_OF
    if type(value) in HANDED_OVER:
        return True
    if isinstance(value, type | types.FunctionType):
        return value.__module__ == TESTS_MODULE
    return type(value).__module__ == TESTS_MODULE


class CodeModule(types.ModuleType):
    """The module for the tests to import. Its names are looked up when they are read."""

    def __init__(self, name: str, code: Remote, names: list[str]) -> None:
        super().__init__(name)
        vars(self).update(_code=code, __all__=[each for each in names if each[:1] != "_"])

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        code: Remote = vars(self)["_code"]
        found: object = code.look_up(name)
        return found

    def __setattr__(self, name: str, value: object) -> None:
        raise Unverifiable(f"the tests replace {name} in the code, which they cannot")


class AssertCounter(ast.NodeTransformer):
    """Makes each assert record the two sides of its comparison, and count itself if it holds."""

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:
        if isinstance(node.test, ast.Compare) and len(node.test.ops) == 1:
            node.test.left = self._noted("left", node.test.left)
            node.test.comparators = [self._noted("right", node.test.comparators[0])]
        line = ast.Constant(node.lineno)
        looked_at = ast.Call(ast.Name("_looked_at", ast.Load()), [line, node.test], [])
        node.test = ast.fix_missing_locations(ast.copy_location(looked_at, node.test))
        return [node, self._counted(node)]

    def visit_Try(self, node: ast.Try) -> ast.Try:
        """Count an expected error as an assert that held: a `try` whose body ends in `assert
        False`."""
        last = node.body[-1]
        constant = isinstance(last, ast.Assert) and isinstance(last.test, ast.Constant)
        self.generic_visit(node)
        for handler in node.handlers if constant else ():
            handler.body.insert(0, self._counted(handler))
        return node

    def _counted(self, beside: ast.AST) -> ast.stmt:
        counted = ast.Expr(ast.Call(ast.Name("_assert_held", ast.Load()), [], []))
        return ast.fix_missing_locations(ast.copy_location(counted, beside))

    def _noted(self, side: str, value: ast.expr) -> ast.expr:
        call = ast.Call(ast.Name("_note", ast.Load()), [ast.Constant(side), value], [])
        return ast.fix_missing_locations(ast.copy_location(call, value))


def _map(function: Callable[..., Any], *of: Iterable[Any]) -> Iterator[Any]:
    """`map` as a generator, in which a StopIteration of the code is an error and not the end."""
    for each in zip(*of, strict=False):
        yield function(*each)


def _filter(function: Callable[[Any], Any] | None, of: Iterable[Any]) -> Iterator[Any]:
    for each in of:
        if (function or bool)(each):
            yield each


def _run(test: Callable[[], Any] | None) -> None:
    result = test() if test else None
    if inspect.iscoroutine(result):
        asyncio.run(result)
    elif inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise TypeError("a test that yields is never run to its end; leave the yield out")


class Tests:
    """The tests' text, run once with the names of the generated module."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.passed = 0
        # Where an assert has failed, also if the code then swallows the error.
        self.failed_in: int | None = None
        self._sides: dict[str, object] = {}

    def run(self, names: dict[str, Any]) -> None:
        tree = AssertCounter().visit(ast.parse(self.text, TESTS))
        tools = {"_assert_held": self._assert_held, "_note": self._note, "__name__": TESTS_MODULE}
        tools["_looked_at"] = self._looked_at
        namespace = {"map": _map, "filter": _filter, **names, **tools}
        # This process is in the sandbox, and runs the tests of the task.
        exec(compile(tree, TESTS, "exec"), namespace)  # noqa: S102  # nosec B102
        for name, each in list(namespace.items()):
            if each is names.get(name):
                continue
            if isinstance(each, type):
                self._run_class(name, each)
            elif name.startswith("test_") and callable(each):
                _run(each)

    def _run_class(self, name: str, kind: type) -> None:
        if kind.__module__ != TESTS_MODULE:
            return
        unittest: Any = sys.modules.get("unittest")  # where the tests have imported it
        if unittest and issubclass(kind, unittest.TestCase):
            cases = unittest.defaultTestLoader.loadTestsFromTestCase(kind)
            count = cases.countTestCases()
            cases.debug()  # raises what fails
            self.passed += count
        elif name.startswith("Test"):
            for method in (each for each in dir(kind) if each.startswith("test_")):
                instance = kind()
                _run(getattr(instance, "setup_method", None))
                _run(getattr(instance, method))
                _run(getattr(instance, "teardown_method", None))

    def _assert_held(self) -> None:
        self.passed += 1
        self._sides.clear()

    def _looked_at(self, line: int, value: object) -> bool:
        held = bool(value)
        if not held and self.failed_in is None:
            self.failed_in = line
        return held

    def swallowed(self) -> str:
        """The assert that failed without ending the tests; empty if there is none."""
        if self.failed_in is None:
            return ""
        return f"{self.text.split(chr(10))[self.failed_in - 1].strip()}: failed"

    def _note(self, side: str, value: object) -> object:
        self._sides[side] = value
        return value

    def failure(self, error: BaseException) -> str:
        """The failure, with the line of the tests and the two sides of a failed comparison."""
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno or 1 for frame in frames if frame.filename == TESTS]
        where = self.text.split("\n")[(lines or [1])[-1] - 1].strip()
        if not isinstance(error, AssertionError):
            return f"{where}: {describe(error)}"
        sides = [f"the {side} side is {SHORT.repr(value)}" for side, value in self._sides.items()]
        return f"{where}: failed" + (": " if sides else "") + ", ".join(sides)


def describe(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"the code called exit({error.code!r})"
    if isinstance(error, Unverifiable):
        return f"not verifiable: {str(error)[:300]}"
    return f"{type(error).__name__}: {str(error)[:300]}"


def check(side: TestSide, order: dict[str, Any]) -> dict[str, Any]:
    """The report: the asserts that held, the failure, and whether the code's side broke off."""
    tests = Tests(order["tests"])
    code = Remote(side, 0, "Code")
    try:
        names = code.load()
    except Malformed:
        return {"passed": 0, "failure": "the code does not load", "broke_off": True}
    except BaseException as error:
        return {"passed": 0, "failure": f"the code does not load: {describe(error)}"}
    if type(names) is not dict or not all(type(name) is str for name in names):
        return {"passed": 0, "failure": "the code gives no names", "broke_off": True}
    sys.modules[order["module"]] = CodeModule(order["module"], code, list(names))
    # The tests keep Python's built-in functions, except a requested one.
    hidden = set(dir(builtins)) - {order["function"]}
    try:
        tests.run({name: each for name, each in names.items() if name not in hidden})
    except Malformed as error:
        return {"passed": tests.passed, "failure": str(error), "broke_off": True}
    except BaseException as error:
        failure = tests.failure(error)
    else:
        failure = (
            tests.swallowed() or side.broken or ("" if tests.passed else "no assert was reached")
        )
    return {"passed": tests.passed, "failure": failure, "broke_off": side.broke_off}


def main() -> None:
    order = json.loads(Path("order.json").read_text(encoding="utf-8"))
    report_to, reading, writing = os.dup(2), os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):  # the tests' own input and output
        os.dup2(nothing, number)
    side = TestSide(os.fdopen(reading, "rb"), os.fdopen(writing, "wb"))
    os.write(report_to, json.dumps(check(side, order)).encode())
    os._exit(0)


if __name__ == "__main__":
    main()
