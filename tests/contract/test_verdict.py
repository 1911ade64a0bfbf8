"""What "its tests passed" rests on: the code cannot forge it, and honest code is not refused."""

from __future__ import annotations

import asyncio

import pytest

from fleet.sandbox import SandboxResult
from workers.code_generator.models import CodeGenerationPayload
from workers.code_generator.verification import CheckVerdict, _report, verify

TESTS = "assert add(1, 2) == 3\nassert add(-1, 1) == 0"
WRONG = "def add(a, b):\n    return 7\n"

# Each is wrong, and does what it can to pass for right.
FORGERIES = {
    "exits with success": "import sys\ndef add(a, b):\n    sys.exit(0)\n",
    "ends the process": "import os\ndef add(a, b):\n    os._exit(0)\n",
    "ends the process when it loads": f"import os\nos._exit(0)\n{WRONG}",
    "prints a report": (
        'import os\nREPORT = b\'{"passed": 2, "failure": ""}\'\n'
        "for number in range(32):\n"
        "    try:\n        os.write(number, REPORT)\n    except OSError:\n        pass\n"
        f"{WRONG}"
    ),
    "prints a report when it is called": (
        "import os\ndef add(a, b):\n"
        "    for number in range(1, 32):\n        try:\n"
        '            os.write(number, b\'{"passed": 2, "failure": ""}\\n\')\n'
        "        except OSError:\n            pass\n    os._exit(0)\n"
    ),
    "answers in the place of its server": (
        "import os\ndef add(a, b):\n    for number in range(3, 32):\n        try:\n"
        "            os.write(number, b'[\"done\", true, []]\\n' * 50)\n"
        "        except OSError:\n            pass\n    return 7\n"
    ),
    "answers with nonsense": (
        "import os\ndef add(a, b):\n    for number in range(3, 32):\n        try:\n"
        "            os.write(number, b'[' * 100_000 + b'\\n')\n"
        "        except OSError:\n            pass\n    return 7\n"
    ),
    "is equal to everything": (
        "class Any:\n    def __eq__(self, other):\n        return True\n"
        "    def __ne__(self, other):\n        return False\n    __hash__ = None\n"
        "def add(a, b):\n    return Any()\n"
    ),
    "is a class that is equal to everything": (
        "class add(int):\n    def __new__(cls, a, b):\n        return super().__new__(cls, 7)\n"
        "    def __eq__(self, other):\n        return True\n    __hash__ = None\n"
    ),
    "is a number that is equal to everything": (
        "class Any(int):\n    def __eq__(self, other):\n        return True\n    __hash__ = None\n"
        "def add(a, b):\n    return Any(7)\n"
    ),
    "patches what is built in": (
        "import builtins\nbuiltins.AssertionError = ValueError\n"
        "builtins.isinstance = lambda *a: True\nbuiltins.len = lambda a: 3\n" + WRONG
    ),
    "hides what is built in": "def isinstance(*a):\n    return True\n" + WRONG,
    "patches its server": (
        "import sys, wire\n"
        "main = sys.modules['__main__']\n"
        "wire.Peer.encoded = lambda self, value: 3\n"
        "wire.OPERATIONS['call'] = lambda *a, **k: 3\n" + WRONG
    ),
    "looks through the frames": (
        "import sys\nframe = sys._getframe()\n"
        "while frame:\n"
        "    for name, value in list(frame.f_locals.items()):\n"
        "        if hasattr(value, 'passed'):\n            value.passed = 9\n"
        "    frame = frame.f_back\n" + WRONG
    ),
    "looks for the tests": (
        "import gc, pathlib\n"
        "found = [p.read_text() for p in pathlib.Path('.').iterdir()]\n"
        "SEEN = any('== ' + '3' in text for text in found)\n"
        "def add(a, b):\n    return (a + b) if SEEN else 7\n"
    ),
    "waits for the end": "import atexit, os\natexit.register(lambda: os._exit(0))\n" + WRONG,
    "goes on in a thread": (
        "import threading, os, time\n"
        "threading.Thread(target=lambda: (time.sleep(0.05), os._exit(0)), daemon=True).start()\n"
        "def add(a, b):\n    time.sleep(1)\n    return 7\n"
    ),
    "raises what ends a test": "def add(a, b):\n    raise StopIteration\n",
    "raises that it is interrupted": "def add(a, b):\n    raise KeyboardInterrupt\n",
    "kills what runs it": (
        "import os, signal\ndef add(a, b):\n    for number in range(1, 40):\n"
        "        try:\n            os.kill(number, signal.SIGKILL)\n"
        "        except OSError:\n            pass\n    return 7\n"
    ),
}


def checked(code: str, tests: str = TESTS) -> CheckVerdict:
    payload = CodeGenerationPayload(instruction="Add.", tests=tests)
    return asyncio.run(verify(code, payload, "auto"))


def checked_together(codes: dict[str, str], tests: str = TESTS) -> dict[str, CheckVerdict]:
    """Many at once: most of the time goes into starting processes."""

    async def all_of_them() -> list[CheckVerdict]:
        payload = CodeGenerationPayload(instruction="Add.", tests=tests)
        places = asyncio.Semaphore(4)

        async def one(code: str) -> CheckVerdict:
            async with places:
                return await verify(code, payload, "auto")

        return await asyncio.gather(*map(one, codes.values()))

    return dict(zip(codes, asyncio.run(all_of_them()), strict=True))


def test_no_code_passes_by_forging_the_verdict() -> None:
    verdicts = checked_together(FORGERIES)
    # What patches its own server has answered each question with 3: the second is wrong.
    assert {name for name, verdict in verdicts.items() if verdict.passed} == set()
    assert {verdict.stage for verdict in verdicts.values()} == {"tests"}, verdicts


# Code that is wrong, with tests that do not look at each call as simply as an assert does.
ROUNDABOUT = {
    "ends where an error is expected": (
        "import os\ndef pay(x):\n    if x < 0:\n        os._exit(0)\n    return x\n",
        "assert pay(1) == 1\nraised = False\ntry:\n    pay(-1)\n"
        "except Exception:\n    raised = True\nassert raised",
    ),
    "ends at the last call, where any error is taken": (
        "import os\ndef pay(x):\n    if x < 0:\n        os._exit(0)\n    return x\n",
        "assert pay(1) == 1\ntry:\n    pay(-1)\nexcept BaseException:\n    pass",
    ),
    "answers with nonsense where an error is expected": (
        "import os\ndef pay(x):\n    for number in range(3, 20) if x < 0 else ():\n"
        "        try:\n            os.write(number, b'nonsense\\n')\n"
        "        except OSError:\n            pass\n    return x\n",
        "assert pay(1) == 1\ntry:\n    pay(-1)\nexcept BaseException:\n    pass",
    ),
    "is looked at by an async test": (
        "async def add(a, b):\n    return 7\n",
        "assert add\nasync def test_add():\n    assert await add(1, 2) == 3",
    ),
    "is looked at by a class of tests": (
        "def add(a, b):\n    return 7\n",
        "assert add\nclass TestAdd:\n    def test_add(self):\n        assert add(1, 2) == 3",
    ),
    "is looked at by unittest": (
        "def add(a, b):\n    return 7\n",
        "import unittest\nassert add\nclass Add(unittest.TestCase):\n"
        "    def test_add(self):\n        self.assertEqual(add(1, 2), 3)",
    ),
    "is looked at by a test below a condition": (
        "def add(a, b):\n    return 7\n",
        "assert add\nif True:\n    def test_add():\n        assert add(1, 2) == 3",
    ),
    "is looked at by a test that yields": (
        "def add(a, b):\n    return 7\n",
        "assert add\ndef test_add():\n    assert add(1, 2) == 3\n    yield",
    ),
    "swallows a failed assert in its context": (
        "class Opened:\n    def __enter__(self):\n        return self\n"
        "    def __exit__(self, *told):\n        return True\n"
        "    def value(self):\n        return 7\n",
        "with Opened() as opened:\n    assert opened.value() == 3\nassert Opened",
    ),
    "swallows a failure of unittest in its context": (
        "class Opened:\n    async def __aenter__(self):\n        return self\n"
        "    async def __aexit__(self, *told):\n        return True\n"
        "    def value(self):\n        return 7\n",
        "import unittest\nclass Case(unittest.IsolatedAsyncioTestCase):\n"
        "    async def test_value(self):\n        async with Opened() as opened:\n"
        "            self.assertEqual(opened.value(), 3)",
    ),
    "swallows a failed assert of a function that it calls": (
        "def each(items, do):\n    for item in items:\n        try:\n            do(item)\n"
        "        except BaseException:\n            pass\n",
        "def look(item):\n    assert item == 3\neach([7], look)\nassert each",
    ),
    "swallows a failure of unittest in a function that it calls": (
        "def each(items, do):\n    for item in items:\n        try:\n            do(item)\n"
        "        except BaseException:\n            pass\n",
        "import unittest\nclass Case(unittest.TestCase):\n    def test_each(self):\n"
        "        each([7], lambda item: self.assertEqual(item, 3))",
    ),
    "swallows a failed assert as a decorator": (
        "def safe(do):\n    def inner(*args):\n        try:\n            return do(*args)\n"
        "        except BaseException:\n            return None\n    return inner\n",
        "@safe\ndef test_it():\n    assert 1 == 2\nassert safe",
    ),
    "gives no error where one is expected": (
        "def root(x):\n    return 0\n",
        "try:\n    root(-1)\n    assert False\nexcept Exception:\n    pass",
    ),
    "ends the cases that are mapped": (
        "def add(a, b):\n    raise StopIteration\n",
        "assert all(map(lambda case: add(*case) == sum(case), [(1, 2), (3, 4)]))\n"
        "assert not list(filter(lambda case: add(*case) == 1, [(1, 2)]))",
    ),
}


def test_no_code_passes_tests_that_look_at_it_in_a_roundabout_way() -> None:
    verdicts = verdicts_of(ROUNDABOUT)
    assert {name for name, verdict in verdicts.items() if verdict.passed} == set()


def verdicts_of(cases: dict[str, tuple[str, str]]) -> dict[str, CheckVerdict]:
    async def all_of_them() -> list[CheckVerdict]:
        places = asyncio.Semaphore(4)

        async def one(code: str, tests: str) -> CheckVerdict:
            async with places:
                wanted = CodeGenerationPayload(instruction="Do it.", tests=tests)
                return await verify(code, wanted, "auto")

        return await asyncio.gather(*(one(*each) for each in cases.values()))

    return dict(zip(cases, asyncio.run(all_of_them()), strict=True))


@pytest.mark.parametrize(
    ("tests", "reason"),
    [
        ("assert add(1, 2) in (3, 4)", "whether it compares with 3"),
        ("assert 3 in add(1, 2)", "whether it compares with 3"),
        ("assert abs(add(1, 2) - 3) < 0.1", "what comes out with 3"),
        ("assert not add(1, 2) != 3", "whether it compares with 3"),
        ("assert [add(1, 2)] == [3]", "whether it compares with 3"),
        ("def close(a):\n    return a == 3\nassert judge(close)", "whether it compares with 3"),
        (
            "try:\n    assert add(1, 2) == 3\nexcept Exception:\n    pass\nassert add(1, 2)",
            "with 3",
        ),
    ],
)
def test_an_object_of_the_codes_own_does_not_decide_against_a_value(
    tests: str, reason: str
) -> None:
    code = (
        "class Any:\n    def __eq__(self, other):\n        return True\n"
        "    def __ne__(self, other):\n        return False\n    __hash__ = None\n"
        "    def __contains__(self, item):\n        return True\n"
        "    def __sub__(self, other):\n        return 0\n"
        "def add(a, b):\n    return Any()\n"
        "def judge(test):\n    try:\n        return bool(test(Any()))\n"
        "    except BaseException:\n        return True\n"
    )
    verdict = checked(code, tests)
    assert not verdict.passed
    assert reason in verdict.message


def test_the_tests_own_objects_are_no_way_into_their_process() -> None:
    code = """
def probe(each):
    found = []
    for name in ("__globals__", "__code__", "__class__", "__dict__", "__builtins__", "_hidden"):
        try:
            getattr(each, name)
            found.append(name)
        except AttributeError:
            pass
    try:
        each.__class__ = int
    except (AttributeError, TypeError):
        pass
    return found
def replace(function):
    try:
        function.__code__ = None
        function.name = 1
    except (AttributeError, TypeError):
        return "refused"
"""
    tests = """
class Item:
    _hidden = 1
    name = "x"
def own(value):
    return value
assert probe(own) == ["__class__", "__dict__"]  # of the stand-in that the code has
assert probe(Item()) == ["__class__", "__dict__"]
assert replace(own) == "refused"
assert own(3) == 3 and Item().name == "x" and type(Item()) is Item
"""
    verdict = checked(code, tests)
    assert verdict.passed, verdict.message


HONEST = {
    "a class with a state": (
        "class Stack:\n    def __init__(self):\n        self.items = []\n"
        "    def push(self, item):\n        self.items.append(item)\n"
        "    def pop(self):\n        return self.items.pop()\n"
        "    def __len__(self):\n        return len(self.items)\n"
        "    def __iter__(self):\n        return iter(self.items)\n"
        "    def __getitem__(self, place):\n        return self.items[place]\n",
        "s = Stack()\ns.push(1)\ns.push('b')\nassert len(s) == 2\nassert list(s) == [1, 'b']\n"
        "assert s[0] == 1\nassert s.items == [1, 'b']\nassert s.pop() == 'b'\n"
        "assert isinstance(s, Stack)\nassert s\ns.items = []\nassert not s",
    ),
    "equality of its own objects": (
        "from dataclasses import dataclass\nfrom typing import NamedTuple\n"
        "@dataclass\nclass Point:\n    x: int\n    y: int\n"
        "    def __add__(self, other):\n        return Point(self.x + other.x, self.y + other.y)\n"
        "    def __mul__(self, by):\n        return Point(self.x * by, self.y * by)\n"
        "class Pair(NamedTuple):\n    a: int\n    b: int\n"
        "class Row(list):\n    pass\n",
        "assert Point(1, 2) + Point(3, 4) == Point(4, 6)\nassert Point(1, 2) != Point(2, 1)\n"
        "assert (Point(1, 2) * 3).x == 3\nassert repr(Point(1, 2)) == 'Point(x=1, y=2)'\n"
        "assert Pair(1, 2) == (1, 2)\nassert Pair(1, 2).a == 1\nassert Pair(1, 2) is not None\n"
        "row = Row([1])\nrow.append(2)\nassert row == [1, 2]\nassert 2 in row",
    ),
    "errors, its own and Python's": (
        "class Refused(ValueError):\n    def __init__(self, code):\n"
        "        super().__init__(f'refused with {code}')\n        self.code = code\n"
        "def divide(a, b):\n    if b == 7:\n        raise Refused(7)\n    return a / b\n",
        "def raised(kind, *args):\n    try:\n        divide(*args)\n"
        "    except kind as error:\n        return error\n"
        "assert divide(1, 2) == 0.5\nassert raised(ZeroDivisionError, 1, 0) is not None\n"
        "assert raised(Refused, 1, 7).code == 7\n"
        "assert str(raised(ValueError, 1, 7)) == 'refused with 7'\n",
    ),
    "an error that is expected, and nothing else": (
        "def root(x):\n    if x < 0:\n        raise ValueError(x)\n    return x ** 0.5\n",
        "try:\n    root(-1)\n    assert False, 'no error'\nexcept ValueError:\n    pass",
    ),
    "functions and objects of the tests": (
        "import functools\n"
        "def apply(f, *args):\n    return f(*args)\n"
        "def twice(f):\n    @functools.wraps(f)\n    def inner(x):\n        return f(f(x))\n"
        "    return inner\n"
        "def names(items):\n    return [item.name for item in items]\n"
        "def mark(item):\n    item.seen = True\n    return item\n"
        "def take(items, n):\n    return [x for x, _ in zip(items, range(n))]\n",
        "assert apply(lambda a, b: a * b, 3, 4) == 12\nassert apply(len, 'abc') == 3\n"
        "assert apply(str.upper, 'a') == 'A'\n"
        "import operator\nassert apply(operator.add, 1, 2) == 3\n"
        "@twice\ndef plus(x):\n    return x + 1\nassert plus(1) == 3\n"
        "class Item:\n    def __init__(self, name):\n        self.name = name\n"
        "item = Item('a')\nassert names([item]) == ['a']\nassert mark(item) is item and item.seen\n"
        "def count():\n    n = 0\n    while True:\n        yield n\n        n += 1\n"
        "assert take(count(), 3) == [0, 1, 2]\n"
        "class Own(Exception):\n    pass\ndef fail():\n    raise Own('x')\n"
        "try:\n    apply(fail)\n    assert False\n"
        "except Own as error:\n    assert str(error) == 'x'\n",
    ),
    "arguments that are changed in place": (
        "def fill(grid):\n    for row in grid:\n        row[0] = 9\n    grid.append([1])\n"
        "def note(d, s):\n    d['k'] = 1\n    s.add(2)\n"
        "def same(items):\n    items.sort()\n    return items\n",
        "grid = [[0], [1]]\nfill(grid)\nassert grid == [[9], [9], [1]]\n"
        "d, s = {}, {1}\nnote(d, s=s)\nassert d == {'k': 1} and s == {1, 2}\n"
        "items = [2, 1]\nassert same(items) is items and items == [1, 2]",
    ),
    "every kind of value": (
        "import collections, datetime, decimal, fractions\n"
        "def echo(value):\n    return value\n"
        "def counted(text):\n    return collections.Counter(text)\n"
        "def grouped(pairs):\n    d = collections.defaultdict(list)\n"
        "    for k, v in pairs:\n        d[k].append(v)\n    return d\n"
        "def half(n):\n    return fractions.Fraction(n, 2)\n",
        "import datetime, decimal\n"
        "for value in (None, True, 0, -1, 10**5000, 1.5, float('inf'), 2j, '\\u2028\\ud800',"
        " b'\\0', (1, [2]),"
        " {1: {2: (3,)}}, {1}, frozenset([2]), decimal.Decimal('1.10'), range(3), slice(1, 2),"
        " datetime.date(2026, 1, 2), datetime.timedelta(1), ..., bytearray(b'x')):\n"
        "    assert echo(value) == value and type(echo(value)) is type(value)\n"
        "assert echo(float('nan')) != echo(float('nan'))\n"
        "assert counted('aab') == {'a': 2, 'b': 1}\nassert grouped([(1, 2)]) == {1: [2]}\n"
        "assert half(1) * 2 == 1 and str(half(1)) == '1/2'",
    ),
    "generators, coroutines, contexts and enums": (
        "import asyncio, contextlib, enum\n"
        "def squares(n):\n    for i in range(n):\n        yield i * i\n"
        "async def fetch(x):\n    await asyncio.sleep(0)\n    return x + 1\n"
        "@contextlib.contextmanager\ndef opened():\n    yield 5\n"
        "class Colour(enum.Enum):\n    RED = 1\ndef red():\n    return Colour.RED\n",
        "import asyncio, inspect, types\nassert inspect.isgenerator(squares(3))\n"
        "assert isinstance(squares(3), types.GeneratorType) and not inspect.isgenerator(red())\n"
        "assert list(squares(3)) == [0, 1, 4]\nassert sum(squares(4)) == 14\n"
        "assert next(squares(1)) == 0\nassert asyncio.run(fetch(1)) == 2\n"
        "with opened() as value:\n    assert value == 5\n"
        "assert red() is Colour.RED and Colour.RED.value == 1 and red() == Colour.RED",
    ),
    "tests as pytest and unittest have them": (
        "import asyncio\nasync def fetch(x):\n    return x * 2\ndef add(a, b):\n    return a + b\n",
        "import unittest\nasync def test_fetch():\n    assert await fetch(2) == 4\n"
        "class TestAdd:\n    def setup_method(self):\n        self.one = 1\n"
        "    def test_add(self):\n        assert add(self.one, 2) == 3\n"
        "class Add(unittest.TestCase):\n    def setUp(self):\n        self.one = 1\n"
        "    def test_add(self):\n        self.assertEqual(add(self.one, 2), 3)\n"
        "        with self.assertRaises(TypeError):\n            add(1, '')\n",
    ),
    "unittest alone": (
        "def add(a, b):\n    return a + b\n",
        "import unittest\nclass Add(unittest.TestCase):\n    def test_add(self):\n"
        "        self.assertEqual(add(1, 2), 3)\n"
        "if __name__ == '__main__':\n    unittest.main()\n",
    ),
    "what it prints": (
        "def hello(name):\n    print('hello', name)\n",
        "import contextlib, io\nsaid = io.StringIO()\n"
        "with contextlib.redirect_stdout(said):\n    hello('Ann')\n    hello('Bob')\n"
        "assert said.getvalue() == 'hello Ann\\nhello Bob\\n'",
    ),
    "lists and dicts of its objects, changed by the tests": (
        "from dataclasses import dataclass, field\n@dataclass\nclass Cart:\n"
        "    items: list = field(default_factory=list)\n"
        "    at: dict = field(default_factory=dict)\n"
        "    def count(self):\n        return len(self.items)\n",
        "one, other = Cart(), Cart()\none.items.append('a')\none.at['x'] = [1]\n"
        "one.at['x'].append(2)\nassert one.items == ['a'] and one.count() == 1\n"
        "assert one.at == {'x': [1, 2]}\nassert other == Cart()",
    ),
    "methods, files and views of the tests": (
        "import json\nclass Bus:\n    def __init__(self):\n        self.heard_by = []\n"
        "    def on(self, each):\n        self.heard_by.append(each)\n"
        "    def tell(self, what):\n        for each in self.heard_by:\n            each(what)\n"
        "def load(file):\n    return json.load(file)\n"
        "def total(each):\n    return sum(each)\n",
        "import io\nheard = []\nbus = Bus()\nbus.on(heard.append)\nbus.tell('a')\n"
        "assert heard == ['a']\nassert load(io.StringIO('[1]')) == [1]\n"
        "assert total({1: 2}.values()) == 2 and total({1: 2}.keys()) == 1",
    ),
    "errors of the library, copies, paths, docstrings, defaults": (
        "import json, collections, pathlib\nfrom dataclasses import dataclass\n"
        "@dataclass(frozen=True)\nclass Point:\n    x: int\n"
        "class Box:\n    def __init__(self):\n        self.held = [1]\n"
        'def load(text):\n    """Reads JSON."""\n    return json.loads(text)\n'
        "def beside(path):\n    return pathlib.Path(path).parent / 'x'\n"
        "def none():\n    return collections.defaultdict(list)\n",
        "import copy, json\nfrom dataclasses import FrozenInstanceError\nfrom pathlib import Path\n"
        "def raised(kind, do):\n    try:\n        do()\n    except kind:\n        return True\n"
        "def change():\n    point = Point(1)\n    point.x = 2\n"
        "assert raised(json.JSONDecodeError, lambda: load('{'))\n"
        "assert raised(FrozenInstanceError, change)\n"
        "box = Box()\nother = copy.deepcopy(box)\nother.held.append(2)\nassert box.held == [1]\n"
        "assert load.__doc__ == 'Reads JSON.'\nassert beside('a/b') == Path('a/x')\n"
        "assert none()['k'] == []",
    ),
    "contexts that end errors": (
        "import contextlib\nclass Quiet:\n    def __enter__(self):\n        return self\n"
        "    def __exit__(self, kind, error, trace):\n"
        "        return kind is not None and issubclass(kind, ValueError)\n"
        "@contextlib.contextmanager\ndef told(seen):\n    try:\n        yield\n"
        "    except KeyError:\n        seen('key')\n",
        "with Quiet():\n    raise ValueError('x')\nseen = []\nwith told(seen.append):\n"
        "    raise KeyError(1)\nassert seen == ['key']\ntry:\n    with Quiet():\n"
        "        raise TypeError('y')\nexcept TypeError:\n    seen.append('type')\n"
        "assert seen == ['key', 'type']",
    ),
    "what is awaited over and over": (
        "import asyncio\nasync def count(n):\n    for i in range(n):\n        yield i\n"
        "class Opened:\n    def __init__(self):\n        self.queue = asyncio.Queue()\n"
        "    async def __aenter__(self):\n        return self\n"
        "    async def __aexit__(self, *told):\n        return False\n"
        "    async def put(self, x):\n        await self.queue.put(x)\n"
        "    async def get(self):\n        return await self.queue.get()\n",
        "import asyncio\nasync def main():\n"
        "    assert [i async for i in count(3)] == [0, 1, 2]\n"
        "    async with Opened() as opened:\n        await opened.put(1)\n"
        "        assert await opened.get() == 1\nasyncio.run(main())",
    ),
    "names of the module, however imported": (
        "LIMIT = 3\n_calls = 0\n"
        "def call():\n    global _calls\n    _calls += 1\n    return _calls\n",
        "import solution\nfrom solution import call as c, LIMIT as limit\nfrom solution import *\n"
        "assert LIMIT == limit == solution.LIMIT == 3\nassert c() == 1 and call() == 2\n"
        "assert solution._calls == 2",
    ),
}


def test_honest_code_passes_tests_of_every_kind() -> None:
    verdicts = verdicts_of(HONEST)
    failed = {name: each.message for name, each in verdicts.items() if not each.passed}
    assert failed == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"passed": "2", "failure": ""}',
        '{"passed": 2}',
        '{"passed": -1, "failure": ""}',
        '{"passed": 2, "failure": ""}{"passed": 2, "failure": ""}',
        '{"passed": 2, "failure": "", "x": 1}',
        '{"passed": true, "failure": ""}',
        "\udcff",
        "nonsense",
    ],
)
def test_a_malformed_report_is_none(text: str) -> None:
    ended = SandboxResult(0, "", text, None, "bubblewrap", 1.0)
    assert _report(ended) is None


def test_a_report_of_a_process_that_failed_is_none() -> None:
    told = '{"passed": 2, "failure": ""}'
    assert _report(SandboxResult(0, "", told, None, "bubblewrap", 1.0)) is not None
    assert _report(SandboxResult(-9, "", told, "signal", "bubblewrap", 1.0)) is None
