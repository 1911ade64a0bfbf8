"""`http`: requests by templates, for a service whose API no rotator of its own covers.

A template's text may hold {new.FIELD} and {old.FIELD} (fields of the new and of the current
version), {admin.FIELD} (of the secret that the option `admin` names), {id} (of the rotation, the
same when it is resumed), {path} and {version}. In an address the values are percent-encoded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

from pydantic import Field, StringConstraints, model_validator

from fleet.errors import InvalidRequest
from fleet.secrets.rotator import Fields, ReadFields, RotatorFactory, Turn
from fleet.secrets.rotators.calls import GONE, SafeUrl, call_json, text_at
from fleet.secrets.rotators.generated import GeneratedRotator
from fleet.secrets.values import check_path
from fleet.settings.names import Section

PLACE = re.compile(r"\{([a-z]+)(?:\.([A-Za-z0-9_\-]+))?\}")
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9\-]{1,64}$")]
FieldName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_\-]{1,64}$")]
Values = Mapping[str, Fields | str]


class HttpRequest(Section):
    """One request. `body` is sent as JSON."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    url: SafeUrl
    headers: dict[HeaderName, str] = Field(default_factory=dict)
    body: dict[str, Any] | None = None


class CreateRequest(HttpRequest):
    """The request that makes a new version. `answer` names the fields that are stored, and where
    each stands in the answer, such as `key.value`."""

    answer: dict[FieldName, str] = Field(min_length=1)


class HttpOptions(Section):
    """The requests. Without `create`, Fleet generates the fields, or with `by_person` a person
    brings them. Without `revoke`, a version only leaves the store."""

    create: CreateRequest | None = None
    set: HttpRequest | None = None
    test: HttpRequest
    revoke: HttpRequest | None = None
    admin: str | None = None
    by_person: bool = False

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if self.create is not None and self.by_person:
            raise ValueError("by_person: a person brings the value, so remove create")
        if self.create is None and self.set is None and not self.by_person:
            raise ValueError("create or set: one of them has to tell the service the new value")
        if self.admin is not None:
            try:
                check_path(self.admin)
            except InvalidRequest as error:
                raise ValueError(f"admin: {error}") from None
        return self


class HttpRotator:
    """Turns a secret over by the requests of its options."""

    def __init__(self, options: HttpOptions, read: ReadFields) -> None:
        self.by_person = options.by_person
        self._options = options
        self._read = read
        self._generated = GeneratedRotator()

    def create(self, turn: Turn) -> Fields:
        """The fields that the service answers with, or generated ones."""
        request = self._options.create
        if request is None:
            return self._generated.create(turn)
        answer = self._send(request, {**_of(turn), "old": turn.old})
        return {
            name: text_at(answer, place, request.url) for name, place in request.answer.items()
        }

    def set(self, turn: Turn, new: Fields) -> None:
        """Tell the service the new version."""
        if self._options.set is not None:
            self._send(self._options.set, {**_of(turn), "old": turn.old, "new": new})

    def test(self, turn: Turn, new: Fields) -> None:
        """Send the request of the test."""
        self._send(self._options.test, {**_of(turn), "old": turn.old, "new": new})

    def revoke(self, old: Fields) -> None:
        """Have the service refuse the version. HTTP 404 means that it is gone."""
        if self._options.revoke is not None:
            self._send(self._options.revoke, {"old": old}, allowed=(GONE,))

    def _send(self, request: HttpRequest, values: Values, allowed: tuple[int, ...] = ()) -> Any:
        if self._options.admin is not None:
            values = {**values, "admin": self._read(self._options.admin)}
        headers = {name: _filled(each, values) for name, each in request.headers.items()}
        url = _filled(request.url, values, lambda value: quote(value, safe=""))
        return call_json(request.method, url, headers, _body(request.body, values), allowed)


def _of(turn: Turn) -> dict[str, Fields | str]:
    return {"id": turn.id, "path": turn.path, "version": str(turn.version)}


def _body(template: Any, values: Values) -> Any:
    if isinstance(template, dict):
        return {name: _body(each, values) for name, each in template.items()}
    if isinstance(template, list):
        return [_body(each, values) for each in template]
    return _filled(template, values) if isinstance(template, str) else template


def _filled(
    template: str, values: Values, quoted: Callable[[str], str] = lambda value: value
) -> str:
    """The template with its values. Raises `InvalidRequest` for a place without a value."""

    def value_of(place: re.Match[str]) -> str:
        name, field = place[1], place[2]
        found = values.get(name)
        value = found.get(field) if isinstance(found, Mapping) and field else found
        if not isinstance(value, str):
            raise InvalidRequest(f"the template's {place[0]} has no value in this request")
        return quoted(value)

    return PLACE.sub(value_of, template)


HTTP = RotatorFactory(HttpOptions, HttpRotator)
