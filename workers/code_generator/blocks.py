"""Chooses among the code blocks of one answer: drafts, corrections, parts and examples of use."""

from __future__ import annotations

import ast
import builtins
import re
import symtable
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# The names in a block that shows or tests the code of another block.
EXAMPLE = re.compile(r"_*(main|tests?|demos?|examples?|usage)(_|\d|$)|Test(s$|[A-Z_])|test", re.A)
BUILT_IN = frozenset(dir(builtins))


def parsed(text: str) -> ast.Module | None:
    """The syntax tree, or None where the text is no Python."""
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def names_of_tests(tests: str, module: str) -> set[str]:
    """The names that the tests take from the module that they test."""
    found, modules = Block(tests).missing, {module}
    for node in ast.walk(parsed(tests) or ast.Module([], [])):
        if isinstance(node, ast.Import):
            modules |= {a.asname for a in node.names if a.asname and a.name == module}
        elif isinstance(node, ast.ImportFrom) and node.module == module:
            found |= {alias.name for alias in node.names}
    for node in ast.walk(parsed(tests) or ast.Module([], [])):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found |= {node.attr} if node.value.id in modules else set()
    return found - modules


@dataclass(frozen=True)
class Block:
    """A piece of the answer. `closed` is False if the answer ended before the block did.

    `labelled` says that the answer labels it as Python.
    """

    text: str
    closed: bool = True
    labelled: bool = True

    @cached_property
    def tree(self) -> ast.Module | None:
        return parsed(self.text)

    @cached_property
    def definitions(self) -> dict[str, ast.stmt]:
        """Functions, classes and named lambdas at the top level, by name."""
        body = self.tree.body if self.tree else []
        return {name: node for node in body for name in _defined_by(node)}

    @cached_property
    def bound(self) -> set[str]:
        """Every name that the block gives a value to at its top level."""
        body = self.tree.body if self.tree else []
        return {name for node in body for name in _bound_by(node)}

    @cached_property
    def missing(self) -> set[str]:
        """Names that the block reads, and that neither it nor Python gives a value."""
        try:
            table = symtable.symtable(self.text, "<answer>", "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return set()
        return _globals_read(table, top=True) - self.bound - BUILT_IN

    @cached_property
    def purposes(self) -> set[str]:
        """The main definitions of the block: those that its other definitions do not use."""
        helpers = {
            other
            for name, node in self.definitions.items()
            for other in _read(node) & self.definitions.keys() - {name}
        }
        return set(self.definitions) - helpers or set(self.definitions)

    @cached_property
    def is_example(self) -> bool:
        return all(EXAMPLE.match(name) for name in self.definitions)


def chosen(blocks: Sequence[Block], wanted: Collection[str] = ()) -> str | None:
    """The code from the blocks; None if there is no block.

    The last definition of a name wins, so that a correction replaces its draft, unless it needs a
    name that no block defines: small models begin variants that they never finish. An earlier block
    precedes it only if it defines another wanted name, or a name that the later block reads. The
    wanted names are `wanted`; without it, all definitions of the blocks except tests and examples.
    If nothing is defined, the last Python block is the code. If no block is Python, it is the last
    block, so that its error can be reported.
    """
    usable = [block for block in blocks if block.closed and block.tree and block.definitions]
    usable = usable or [block for block in blocks if block.tree and block.definitions]
    known = {name for block in blocks if block.tree for name in block.bound}
    usable = [block for block in usable if block.missing <= known] or usable
    if usable:
        return _joined(_needed(usable, [b for b in blocks if b.tree and b.closed], wanted))
    broken = [block for block in blocks if block.tree is None and "def " in block.text]
    scripts = [block for block in blocks if block.tree and block.tree.body]
    scripts = [block for block in scripts if block.labelled] or scripts
    others = broken or scripts or list(blocks)
    return others[-1].text if others else None


def _needed(
    usable: Sequence[Block], complete: Sequence[Block], wanted: Collection[str]
) -> list[Block]:
    """The blocks of the code, in the answer's order."""
    parts = [block for block in usable if not block.is_example] or usable
    asked = set(wanted) & {name for block in usable for name in block.definitions}
    asked = asked or {name for block in parts for name in block.purposes}
    needed: list[Block] = []
    covered: set[str] = set()
    for block in reversed(complete if len(usable) > 1 or usable[0].closed else usable):
        read = {name for later in needed for name in later.missing}
        defines = block.definitions.keys() & asked if block in usable else set()
        provides = defines | (block.bound & read)
        if provides - covered:
            needed.insert(0, block)
            covered |= block.bound
    return needed or [usable[-1]]


def _joined(blocks: Sequence[Block]) -> str:
    text = "\n\n".join(block.text for block in blocks)
    try:
        compile(text, "<answer>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # such as a late __future__
        return blocks[-1].text
    return text


def _defined_by(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.ClassDef) or (isinstance(node, FUNCTIONS) and not _is_stub(node)):
        yield node.name
    elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.If | ast.Try):
        yield from (name for inner in node.body for name in _defined_by(inner))


def _is_stub(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A function that an example leaves empty: `...`, `pass`, a docstring."""
    return not node.decorator_list and all(
        isinstance(inner, ast.Pass)
        or (isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Constant))
        for inner in node.body
    )


def _bound_by(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        if isinstance(node, ast.ClassDef) or not _is_stub(node):
            yield node.name
        return
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            yield inner.id
        elif isinstance(inner, ast.alias):
            yield (inner.asname or inner.name).partition(".")[0]
        elif inner is not node and isinstance(inner, (*FUNCTIONS, ast.ClassDef)):
            yield inner.name


def _globals_read(table: symtable.SymbolTable, *, top: bool) -> set[str]:
    """Names that are looked up in the module, from its top level or from within a function."""
    names = {
        symbol.get_name()
        for symbol in table.get_symbols()
        if symbol.is_referenced() and (top or symbol.is_global())
    }
    return names.union(*(_globals_read(inner, top=False) for inner in table.get_children()))


def _read(tree: ast.AST) -> set[str]:
    """Names that are read anywhere within and are not parameters or local names there."""
    read: set[str] = set()
    local: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else local).add(node.id)
        elif isinstance(node, ast.arg):
            local.add(node.arg)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            local.add(node.name)
    return read - local
