"""What the pages say about the code is so: links, files, names, commands, options and examples."""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tomli_w
import typer

from fleet import Fleet
from fleet.cli.main import app
from fleet.settings import parse_config
from fleet.settings.environment import Environment

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "AGENTS.md")),
        *DOCS.rglob("*.md"),
        DOCS / "llms.txt",
        *(ROOT / "examples").rglob("*.md"),
    ]
)
TOPS = (
    *("fleet", "workers", "beat_schedules", "tests", "benchmarks", "examples", "findings"),
    *("docs", "charts"),
)
SOURCES = (".py", ".lua", ".toml", ".cfg", ".sh", ".yml", ".txt", ".json", ".yaml", ".tpl")

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
PLACEHOLDER = re.compile(r"[A-Z]{2,}|[<>{}*~$%]|\.\.\.|^/|://|^\.")
PATH = re.compile(r"[\w.\-]+(/[\w.\-]+)+/?|[\w\-]+\.(py|lua|md|toml|cfg|txt|sh|svg)")
NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(\(\))?")
WORD = re.compile(r"[A-Za-z_]\w*")

MADE = {
    "build/site",
    "build/rivals-venv",
    "ledger.csv",
    "spend.png",
    "waits.png",
    "findings.sarif",
    "larger.toml",
    "bill.csv",
}
"""What a reader makes, and no file of the project."""


NAMED = {"agent_types", "pools", "request_types", "providers", "catalogue"}
"""Tables that replace the default ones as a whole: pages show a part of them."""


def of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@functools.cache
def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in FENCE.findall(page.read_text()) if found == language]


@functools.cache
def spans(page: Path) -> list[str]:
    return SPAN.findall(prose(page))


def slug(heading: str) -> str:
    """The anchor that GitHub and MkDocs give to a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


@functools.cache
def anchors(page: Path) -> set[str]:
    return {slug(heading) for heading in HEADING.findall(prose(page))}


@functools.cache
def files() -> frozenset[str]:
    found = {path for top in TOPS for path in (ROOT / top).rglob("*")}
    found |= set(ROOT.iterdir()) | set((ROOT / ".ci").iterdir())
    return frozenset(str(path.relative_to(ROOT)) for path in found)


@functools.cache
def words() -> frozenset[str]:
    """Every name that occurs in the sources, tests and examples."""
    paths = [path for path in files() if path.endswith(SOURCES) and not path.startswith("docs/")]
    found = {word for path in paths for word in WORD.findall((ROOT / path).read_text())}
    stems = {Path(path).stem for path in files()}
    variables = {f"FLEET_{name.upper()}" for name in Environment.model_fields}
    return frozenset(found | stems | variables | set(WORD.findall((ROOT / "Makefile").read_text())))


@pytest.mark.parametrize("page", PAGES, ids=of)
def test_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for target in (first or second for first, second in LINK.findall(prose(page))):
        if "://" in target:
            continue
        place, _, anchor = target.partition("#")
        found = (page.parent / place).resolve() if place else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            wrong.append(target)
    assert wrong == []


@functools.cache
def endings() -> frozenset[str]:
    """Every file and folder, with its path or the end of it."""
    parts = (path.split("/") for path in files())
    return frozenset("/".join(each[start:]) for each in parts for start in range(len(each)))


def is_file(span: str) -> bool:
    return span.rstrip("/") in endings() | MADE


@pytest.mark.parametrize("page", PAGES, ids=of)
def test_files_that_are_named_exist(page: Path) -> None:
    named = [s for s in spans(page) if PATH.fullmatch(s) and not PLACEHOLDER.search(s)]
    named = [span for span in named if not SECRET_PATH.fullmatch(span)]
    assert [span for span in named if not is_file(span)] == []


SECRET_PATH = re.compile(r"(agents|audit|messages|providers|tenants)/[a-z0-9_\-/]+")
"""Paths of secrets, which look like files."""
FOREIGN = {"Delegate", "DelegateSubgroup", "Mock", "RetryInfo", "bwrap", "no_new_privs", "nsjail"}
FOREIGN |= {"FLEET_STATE_URL", "purge", "pyseccomp", "terminationGracePeriodSeconds"}
"""Names of other people's things."""


@pytest.mark.parametrize("page", PAGES, ids=of)
def test_names_occur_in_the_code(page: Path) -> None:
    named = [s for s in spans(page) if NAME.fullmatch(s) and not is_file(s)]
    unknown = {span for span in named if not set(WORD.findall(span)) <= words() | FOREIGN}
    assert unknown == set()


def test_the_picture_of_the_internals_names_what_there_is() -> None:
    (picture,) = blocks(DOCS / "internals.md", "text")
    scripts = set(re.findall(r"\w+\.lua", picture))
    named = set(re.findall(r"\b[A-Z]\w*[a-z](?:\.\w+)?", picture))
    assert scripts - endings() == set()
    assert {word for name in named for word in name.split(".")} - words() == set()
    assert "submit.lua" in scripts and "AgentRunner.run" in named


@functools.cache
def resolved(dotted: str) -> bool:
    """Whether a dotted name is a module, or something in one. Nothing is imported."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        module = ROOT.joinpath(*parts[:end])
        if module.with_suffix(".py").is_file():
            return defines(module.with_suffix(".py"), parts[end:])
        if (module / "__init__.py").is_file():
            return defines(module / "__init__.py", parts[end:])
    return False


def defines(module: Path, names: list[str]) -> bool:
    """Whether a file defines the first name, and that one the next as its member."""
    body: list[ast.stmt] = ast.parse(module.read_text()).body
    for name in names:
        found = [node for node in body if name in defined(node)]
        if not found:
            return False
        body = found[0].body if isinstance(found[0], ast.ClassDef) else []
    return True


def defined(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    stored = [each for each in ast.walk(node) if isinstance(each, ast.Name)]
    names = {each.id for each in stored if isinstance(each.ctx, ast.Store)}
    if "__all__" in names:  # what a package gives when it is asked for
        names |= {each.value for each in ast.walk(node) if isinstance(each, ast.Constant)}
    return names


@functools.cache
def names_of_fleet() -> set[str]:
    """What stands behind `fleet.` and is no module: methods of a client, jobs, files, groups."""
    jobs = {
        node.value.removeprefix("fleet.")
        for path in files()
        if path.endswith("known_tasks.py")
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.Constant) and str(node.value).startswith("fleet.")
    }
    return jobs | set(dir(Fleet)) | {
        *("toml", "agents", "strategies", "scaling_policies", "scaling_actuators", "cars"),
        *("secret_stores", "secret_rotators"),
    }


@pytest.mark.parametrize("page", PAGES, ids=of)
def test_modules_that_are_named_exist(page: Path) -> None:
    named = re.findall(r"\b(?:fleet|workers|beat_schedules)(?:\.\w+)+", " ".join(spans(page)))
    own = names_of_fleet()
    wrong = {n for n in named if n.split(".")[1] not in own and not resolved(n)}
    assert wrong == set()


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every `fleet ...` of the page, in prose and in blocks."""
    lines = [span for span in spans(page) if span.startswith("fleet ")]
    for block in blocks(page, "sh"):
        lines += block.replace("\\\n", " ").splitlines()
    for line in lines:
        typed = re.sub(r"^\w+=\$\((.+)\)$", r"\1", line.strip())
        for command in typed.split(" || "):
            words = shlex.split(command, comments=True)
            if words and words[0].removeprefix(".venv/bin/") == "fleet":
                yield words[1:]


@functools.cache
def command_line() -> Any:
    """The command `fleet`, and a context to look for its sub-commands in."""
    group: Any = typer.main.get_command(app)
    return group, group.make_context("fleet", [], resilient_parsing=True)


def wrong_with(words: list[str]) -> str:
    """What the command line has not: a sub-command or an option."""
    found, context = command_line()
    rest = iter(words)
    for word in rest:
        if word.startswith("--"):
            options = {name: each for each in found.params for name in each.opts}
            if word not in {*options, "--help", "--version"}:
                return f"fleet {shlex.join(words)}: no option {word}"
            if word in options and not options[word].is_flag:
                next(rest, None)
        elif hasattr(found, "resolve_command") and re.fullmatch(r"[a-z_-]+", word):
            _, found, _ = found.resolve_command(context, [word])
            if found is None:
                return f"fleet {shlex.join(words)}: no command {word}"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=of)
def test_commands_and_their_options_exist(page: Path) -> None:
    assert [wrong for each in commands(page) if (wrong := wrong_with(each))] == []


@pytest.mark.parametrize("page", PAGES, ids=of)
def test_targets_of_make_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"\bmake ([a-z-]+)", " ".join(spans(page)))
    for block in blocks(page, "sh"):
        named += re.findall(r"^make ([a-z-]+)", block, re.MULTILINE)
    assert set(named) - targets == set()


def imports(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("page", PAGES, ids=of)
def test_the_python_of_the_pages_is_python_and_imports_what_exists(page: Path) -> None:
    own = [name for text in blocks(page, "python") for name in imports(text)]
    own = [name for name in own if name.split(".")[0] in ("fleet", "workers", "beat_schedules")]
    assert [name for name in own if not resolved(name)] == []


@pytest.mark.parametrize("tool", sorted((DOCS / "tools").glob("*.py")), ids=of)
def test_the_tools_of_the_pages_import_what_exists(tool: Path) -> None:
    own = [name for name in imports(tool.read_text()) if name.startswith("fleet")]
    assert [name for name in own if not resolved(name)] == []


@pytest.mark.parametrize("page", PAGES, ids=of)
def test_the_configuration_of_the_pages_is_right(page: Path) -> None:
    default = tomllib.loads((ROOT / "fleet" / "settings" / "default.toml").read_text())
    for text in blocks(page, "toml"):
        given = tomllib.loads(text)
        named = {name for name in given.keys() & NAMED if name in default}
        whole = {name: {**default[name], **given[name]} for name in named}
        parse_config(tomli_w.dumps({**given, **whole}), of(page))


def test_the_readme_is_short_and_says_two_commands() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 120
    assert {"make demo", "make test"} <= {line.split("#")[0].strip() for line in lines}
    for text in blocks(ROOT / "README.md", "python"):
        assert len(text.splitlines()) < 20


def test_every_page_is_in_the_navigation_and_in_llms_txt() -> None:
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    navigation = set(re.findall(r"[\w/\-]+\.md", (ROOT / ".ci" / "mkdocs.yml").read_text()))
    assert navigation == pages
    listed = set(re.findall(r"\(([\w/\-]+\.md)\)", (DOCS / "llms.txt").read_text()))
    assert listed | {"index.md"} == pages


def file_lines() -> ModuleType:
    spec = importlib.util.spec_from_file_location("file_lines", DOCS / "tools" / "file_lines.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_list_of_files_is_the_one_that_their_heads_make() -> None:
    page = (DOCS / "internals" / "files.md").read_text()
    assert page == file_lines().rendered(page), "run: python docs/tools/file_lines.py"
