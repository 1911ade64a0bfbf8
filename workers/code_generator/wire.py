"""Values and calls between two processes that do not trust each other, as lines of JSON.

The agent does not import this file. It is in both sandboxes, beside the tests and beside the tested
code. Plain values are sent as copies of the same exact type. Any other object stays on its side:
the other side gets a `Remote`, which sends each operation to the object. Only the code's side
allows its peer all operations; see `Peer.guard`.

If the callee changes an argument in place (a list, a dict, a set), the caller's object is changed
too at the end of the call. Several copies of one object within an argument become separate objects.
"""

from __future__ import annotations

import builtins
import inspect
import json
import threading
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from types import GeneratorType
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workers.code_generator.operations import (
        ARITHMETIC,
        COMPARISONS,
        FACTORIES,
        MAKERS,
        MAPPINGS,
        MUTABLE,
        OPERATIONS,
        SEQUENCES,
        TEXTS,
        Malformed,
        change,
        is_of_library,
        library_error,
        plain_of,
    )
else:  # beside this file, in the sandbox
    from operations import (
        ARITHMETIC,
        COMPARISONS,
        FACTORIES,
        MAKERS,
        MAPPINGS,
        MUTABLE,
        OPERATIONS,
        SEQUENCES,
        TEXTS,
        Malformed,
        change,
        is_of_library,
        library_error,
        plain_of,
    )

WRONG = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
LINE_BYTES = 32 * 1024 * 1024


class Remote:
    """An object of the other side. `_is_plain` says that it has a plain value as well."""

    _peer: Peer
    _number: int
    _kind: str
    _is_plain: bool

    def __init__(self, peer: Peer, number: int, kind: str, is_plain: bool = False) -> None:
        vars(self).update(_peer=peer, _number=number, _kind=kind, _is_plain=is_plain)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in ("__name__", "__qualname__", "__doc__"):
            raise AttributeError(name)
        return self._peer.ask("getattr", self, name)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """For `isinstance` and `inspect.isgenerator`; the object is used by its operations."""
        return GeneratorType if vars(self)["_kind"] == "generator" else Remote

    @property
    def __doc__(self) -> Any:  # type: ignore[override]
        return self._peer.ask("getattr", self, "__doc__")

    def __setattr__(self, name: str, value: Any) -> None:
        self._peer.ask("setattr", self, name, value)

    def __delattr__(self, name: str) -> None:
        self._peer.ask("delattr", self, name)

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self._peer.ask("call", self, *args, **named)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> Any:
        return self._peer.leave("exit", self, kind)

    def __deepcopy__(self, known: Any) -> Any:
        return self._peer.ask("deepcopy", self)

    async def __anext__(self) -> Any:
        return self._peer.ask("anext", self)

    async def __aenter__(self) -> Any:
        return self._peer.ask("aenter", self)

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> Any:
        return self._peer.leave("aexit", self, kind)

    def __mro_entries__(self, bases: Any) -> Any:
        raise TypeError("the tests cannot derive a class from one of the code's")

    def __instancecheck__(self, instance: Any) -> bool:
        return bool(self._peer.ask("isinstance", instance, self))

    def __subclasscheck__(self, subclass: Any) -> bool:
        return bool(self._peer.ask("issubclass", subclass, self))


def _forwarded(name: str, result: type | None = None) -> Callable[..., Any]:
    def method(self: Remote, *args: Any) -> Any:
        answer = self._peer.ask(name, self, *args)
        if result is not None and type(answer) is not result:
            raise TypeError(f"{name} gave no {result.__name__}")
        return answer

    return method


def _compared(name: str) -> Callable[..., Any]:
    def method(self: Remote, other: Any) -> Any:
        if self._is_plain and other is not None:
            return OPERATIONS[name](as_plain(self), as_plain(other))
        return self._peer.compare(name, self, other)

    return method


def as_plain(value: Any) -> Any:
    """The current plain value of an object of the other side; anything else unchanged."""
    if isinstance(value, Remote) and value._is_plain:
        return value._peer.ask("plain", value)
    return value


def _computed(name: str, swapped: bool) -> Callable[..., Any]:
    def method(self: Remote, other: Any) -> Any:
        operands: tuple[Any, Any] = (other, self) if swapped else (self, other)
        return self._peer.compute(name, operands[0], operands[1], other)

    return method


for _name in ("getitem", "setitem", "delitem", "iter", "next", "reversed", "enter", "abs", "neg"):
    setattr(Remote, f"__{_name}__", _forwarded(_name))
for _name in ("pos", "invert", "round", "copy", "aiter"):
    setattr(Remote, f"__{_name}__", _forwarded(_name))
for _type, _names in (
    (int, ("len", "hash", "int", "index")),
    (str, ("str", "repr", "format")),
    (float, ("float",)),
    (bool, ("bool",)),
):
    for _name in _names:
        setattr(Remote, f"__{_name}__", _forwarded(_name, _type))
for _name in COMPARISONS:
    setattr(Remote, f"__{_name}__", _compared(_name))
for _name in ARITHMETIC:
    setattr(Remote, f"__{_name}__", _computed(_name, False))
    setattr(Remote, f"__r{_name}__", _computed(_name, True))


def _contains(self: Remote, item: Any) -> bool:
    if self._is_plain:
        held: Any = as_plain(self)
        return item in held
    return bool(self._peer.compare("contains", self, item))


setattr(Remote, "__contains__", _contains)  # noqa: B010


class Peer:
    """One end of the connection. Sends operations, and serves the other end while it waits."""

    def __init__(self, reading: IO[bytes], writing: IO[bytes]) -> None:
        self.reading, self.writing = reading, writing
        self.kept: dict[int, Any] = {}
        self.numbers: dict[int, int] = {}
        self.remotes: dict[int, Any] = {}
        self.turn = threading.RLock()

    def guard(self, name: str, operands: list[Any]) -> None:
        """Raise if the other side may not do this operation."""

    def compare(self, name: str, one: Any, other: Any) -> Any:
        """A comparison in which an object of the other side takes part."""
        return self.ask(name, one, other)

    def compute(self, name: str, one: Any, other: Any, own: Any) -> Any:
        """An operation in which an object of the other side takes part, and `own`."""
        return self.ask(name, one, other)

    def ask(self, name: str, *operands: Any, **named: Any) -> Any:
        """Run an operation on the other side. Returns its result or raises its exception."""
        with self.turn:
            sent = [self.encoded(each) for each in operands]
            self._send(["do", name, sent, {key: self.encoded(v) for key, v in named.items()}])
            while (message := self._receive())[0] == "do":
                self._serve(message)
        if message[0] == "raise":
            raise self.exception(message[1])
        if message[0] != "done":
            raise Malformed("an answer of no known kind")
        given = [*operands, *named.values()]
        for place, changed in message[2]:
            change(given[place], self.decoded(changed))
        if isinstance(message[1], list) and message[1][:1] == ["given"]:
            return given[message[1][1]]
        return self.decoded(message[1])

    def leave(self, name: str, each: Remote, kind: type[BaseException] | None) -> bool:
        """Exit a context of the other side, which may suppress an error, but not a failed
        assert."""
        ends = kind is not None and issubclass(kind, Exception)
        told = kind if ends and not issubclass(kind, AssertionError) else None  # type: ignore[arg-type]
        return bool(self.ask(name, each, told, None, None)) and told is not None

    def serve(self) -> None:
        """Serve the other side until it ends."""
        while True:
            try:
                message = self._receive()
            except Malformed:
                return
            self._serve(message)

    def _serve(self, message: list[Any]) -> None:
        try:
            _, name, sent, sent_by_name = message
        except ValueError as error:
            raise Malformed("a request of no known form") from error
        try:
            operands = [self.decoded(each) for each in sent]
            named = {key: self.decoded(each) for key, each in sent_by_name.items()}
            self.guard(name, operands)
            result = OPERATIONS[name](*operands, **named)
            given = [*operands, *named.values()]
            before = [*sent, *sent_by_name.values()]
            changed = [
                (place, now)
                for place, each in enumerate(given)
                if type(each) in MUTABLE and (now := self.encoded(each)) != before[place]
            ]
            same = [i for i, each in enumerate(given) if each is result and type(each) in MUTABLE]
            answer = ["done", ["given", same[0]] if same else self.encoded(result), changed]
        except Malformed:
            raise
        except BaseException as error:
            answer = ["raise", self.encoded_exception(error)]
        self._send(answer)

    def _send(self, message: list[Any]) -> None:
        try:
            self.writing.write(json.dumps(message).encode() + b"\n")
            self.writing.flush()
        except (OSError, ValueError) as error:
            raise Malformed("the other side is gone") from error

    def _receive(self) -> list[Any]:
        line = self.reading.readline(LINE_BYTES)
        if not line.endswith(b"\n"):
            raise Malformed("the other side ended")
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Malformed("a line that is no JSON") from error
        if not isinstance(message, list) or len(message) < 2:
            raise Malformed("a line that is no message")
        return message

    def encoded(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind in (bool, str):
            return value
        if kind in TEXTS:
            name, write, _ = TEXTS[kind]
            return [name, write(value)]
        if kind in SEQUENCES:
            return [SEQUENCES[kind], [self.encoded(each) for each in value]]
        if kind in MAPPINGS or kind is defaultdict:
            pairs = [[self.encoded(k), self.encoded(v)] for k, v in value.items()]
            factory = FACTORIES.get(getattr(value, "default_factory", None))
            return [MAPPINGS.get(kind, "defaultdict"), pairs, factory]
        if kind is complex:
            return ["complex", [value.real.hex(), value.imag.hex()]]
        if kind is timedelta:
            return ["timedelta", [value.days, value.seconds, value.microseconds]]
        if kind in (range, slice):
            return [kind.__name__, [self.encoded(v) for v in (value.start, value.stop, value.step)]]
        if value is NotImplemented or value is Ellipsis:
            return ["constant", repr(value)]
        return self.encoded_object(value)

    def encoded_object(self, value: Any) -> Any:
        """An object that stays on this side, or returns to the other side."""
        number = getattr(value, "__dict__", {}).get("_number") if type(value) is Remote else None
        if number is not None:
            return ["yours", number]
        for number, mirror in self.remotes.items():
            if mirror is value:
                return ["yours", number]
        number = self.numbers.setdefault(id(value), len(self.numbers))
        self.kept[number] = value
        if isinstance(value, type) and issubclass(value, BaseException):
            bases = self._bases(value)
            return ["error class", number, value.__name__, bases, value.__module__]
        if inspect.iscoroutine(value):
            return ["mine", number, "coroutine", False]
        return ["mine", number, type(value).__name__, plain_of(value) is not None]

    def _bases(self, kind: type) -> list[Any]:
        return [
            ["builtin", base.__name__]
            if getattr(builtins, base.__name__, None) is base
            else self.encoded_object(base)
            for base in kind.__bases__
            if issubclass(base, BaseException)
        ]

    def decoded(self, message: Any) -> Any:
        try:
            return self._decoded(message)
        except (*WRONG, RecursionError) as error:
            raise Malformed(f"a value of no known form: {error!r:.100}") from error

    def _decoded(self, message: Any) -> Any:
        if message is None or isinstance(message, bool | str):
            return message
        name, content, *more = message
        if name == "yours":
            return self.kept[content]
        if name in ("mine", "error class", "import"):
            return self._object(name, content, more)
        if name == "defaultdict":
            made_by = next((each for each, known in FACTORIES.items() if known == more[0]), None)
            return defaultdict(made_by, {self._decoded(k): self._decoded(v) for k, v in content})
        if name == "complex":
            return complex(*map(float.fromhex, content))
        if name == "timedelta":
            return timedelta(*content)
        if name in ("range", "slice"):
            return {"range": range, "slice": slice}[name](*map(self._decoded, content))
        if name == "constant":
            return {"NotImplemented": NotImplemented, "Ellipsis": Ellipsis}[content]
        if name in MAPPINGS.values():
            return MAKERS[name]({self._decoded(k): self._decoded(v) for k, v in content})
        if name in SEQUENCES.values():
            return MAKERS[name]([self._decoded(each) for each in content])
        return MAKERS[name](content)

    def _object(self, name: str, number: Any, more: list[Any]) -> Any:
        if name == "import":
            return self.imported(number, more[0])
        if number in self.remotes:
            return self.remotes[number]
        found: Any
        if name == "error class" and (known := library_error(more[2], more[0])):
            found = known
        elif name == "error class":
            bases = tuple(self._error_class(base) for base in more[1]) or (Exception,)
            found = type(str(more[0]), bases, {"__str__": _told})
        elif more[0] == "coroutine":
            found = self._coroutine(Remote(self, number, "coroutine"))
        else:
            found = Remote(self, number, str(more[0]), bool(more[1]))
        self.remotes[number] = found
        return found

    async def _coroutine(self, remote: Remote) -> Any:
        return self.ask("await", remote)

    def imported(self, module: str, name: str) -> Any:
        raise Malformed("nothing is imported here")

    def _error_class(self, message: Any) -> type[BaseException]:
        known = message[0] == "builtin"
        found = getattr(builtins, message[1]) if known else self._decoded(message)
        if not (isinstance(found, type) and issubclass(found, BaseException)):
            raise ValueError("no class of errors")
        return found

    def encoded_exception(self, error: BaseException) -> list[Any]:
        origin = error.__dict__.get("_theirs")
        if origin is not None:
            return ["yours", origin]
        kind = type(error)
        known = getattr(builtins, kind.__name__, None) is kind
        self.kept[number := self.numbers.setdefault(id(error), len(self.numbers))] = error
        name = ["builtin", kind.__name__] if known else self.error_name(kind)
        own = {key: self._shown(each) for key, each in error.__dict__.items()}
        return ["mine", number, name, [self._shown(each) for each in error.args], own, str(error)]

    def error_name(self, kind: type[BaseException]) -> Any:
        return self.encoded_object(kind)

    def _shown(self, value: Any) -> Any:
        try:
            return self.encoded(value)
        except Exception:
            return repr(value)

    def exception(self, message: Any) -> BaseException:
        try:
            if message[0] == "yours":
                found = self.kept[message[1]]
                if not isinstance(found, BaseException):
                    raise TypeError("no error")
                return found
            _, number, name, args, own, text = message
            kind, args = self._error_class(name), [self._decoded(each) for each in args]
            # The constructor of a library error may take other arguments than it stores.
            error = kind.__new__(kind, *args) if is_of_library(kind) else kind(*args)
            for key, each in own.items():
                if not key.startswith("__"):
                    setattr(error, key, self._decoded(each))
            error.__dict__.update(_theirs=number, _text=str(text))
        except WRONG as problem:
            raise Malformed(f"an error of no known form: {problem!r:.100}") from problem
        return error


def _told(error: BaseException) -> str:
    return str(error.__dict__.get("_text", ", ".join(map(str, error.args))))
