"""The names of scopes, as fleet.toml and the command line give them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fleet.settings.names import ALL, EACH, SCOPE_KINDS

FORMS = ", ".join(f"{kind}:NAME" for kind in SCOPE_KINDS)
MOST_CHARACTERS = 200


def scope_form(scope: str) -> str:
    """A scope other than `all`, as it is. Raises `ValueError` for what is none.

    A tenant's name may be any text in one line: other publishers have names of their own.
    """
    kind, _, name = scope.partition(":")
    if scope == ALL:
        raise ValueError(f"{scope!r} needs no table of its own; write it one table higher")
    if kind not in SCOPE_KINDS or not name:
        raise ValueError(f"{scope!r} is no scope; write {FORMS}, or {EACH} as NAME for each")
    if name != name.strip() or not name.isprintable() or len(name) > MOST_CHARACTERS:
        raise ValueError(
            f"{scope!r} is no scope: a name has up to {MOST_CHARACTERS} printable characters, and "
            "no white space around it"
        )
    return scope


def check_scope_name(scope: str, known: Mapping[str, Collection[str]]) -> None:
    """Raise `ValueError` for a scope whose name is not among the known ones of its kind.

    A kind without any known names may have all.
    """
    kind, _, name = scope.partition(":")
    names = known.get(kind, ())
    if names and name not in (*names, EACH):
        raise ValueError(f"{name!r} is not known; use one of: {', '.join(sorted(names))}, {EACH}")
