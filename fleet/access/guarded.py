"""Checks every public method of a class against a table of what each needs.

A class whose table misses a public method, or names one that does not exist, cannot be imported. So
no method is added without a decision on who may call it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from inspect import getattr_static
from types import FunctionType
from typing import Any, TypeVar

from fleet.access.rules import Need

Class = TypeVar("Class", bound=type)


def guarded(needs: Mapping[str, Need]) -> Callable[[Class], Class]:
    """Have each public method and property of a class call `self._admit(need, what)` first.

    A method with a parameter `by` gets `self._guard.actor(by)` in its place. Class methods are left
    alone: they make the handle. Raises `TypeError` for a table that does not fit the class.
    """

    def decorate(decorated: Class) -> Class:
        methods = {
            name: found
            for name in dir(decorated)
            if not name.startswith("_")
            and isinstance(found := getattr_static(decorated, name), FunctionType | property)
        }
        if methods.keys() != needs.keys():
            wrong = ", ".join(sorted(methods.keys() ^ needs.keys()))
            raise TypeError(f"{decorated.__name__}: say in its table of needs, or remove: {wrong}")
        for name, found in methods.items():
            what = f"{decorated.__name__}.{name}"
            setattr(decorated, name, _checked(found, what, needs[name]))
        return decorated

    return decorate


def _checked(found: Any, what: str, need: Need) -> Any:
    if isinstance(found, property):
        return property(_checked(found.fget, what, need), doc=found.__doc__)
    code = found.__code__
    has_actor = "by" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]

    @wraps(found)
    def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._admit(need, what)
        if has_actor:
            kwargs["by"] = self._guard.actor(kwargs.get("by", ""))
        return found(self, *args, **kwargs)

    return checked
