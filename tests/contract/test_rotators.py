"""What every rotator does, by one suite. The services are fakes of their documented APIs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from fake_key_service import ADMIN_KEY, PROJECT, FakeKeyService

from fleet.errors import (
    FleetError,
    InvalidConfig,
    InvalidRequest,
    NotAllowed,
    SecretsUnavailable,
)
from fleet.secrets.rotator import Fields, Rotator, Turn, installed_rotators, make_rotator

ADMIN = {"api_key": ADMIN_KEY}
PATH = "providers/acme"


@dataclass
class Subject:
    """A rotator, its service, and how a person makes a key there."""

    rotator: Rotator
    service: FakeKeyService
    is_remote: bool

    def new(self, old: Fields, turn_id: str = "t1") -> Fields:
        """A new version: made by the rotator, or brought by a person."""
        if self.rotator.by_person:
            return {"api_key": self.service.make_key("by a person").value}
        return self.rotator.create(Turn(PATH, 2, turn_id, old))


@pytest.fixture
def service() -> Iterator[FakeKeyService]:
    with FakeKeyService() as found:
        yield found


def options_of(url: str) -> dict[str, dict[str, Any]]:
    """The options of each rotator."""
    admin = {"Authorization": "Bearer {admin.api_key}"}
    return {
        "generated": {},
        "http": {
            "create": {
                "url": f"{url}/keys",
                "headers": admin,
                "body": {"name": "fleet-{id}"},
                "answer": {"api_key": "key.value", "key_id": "key.id"},
            },
            "test": {
                "method": "GET",
                "url": f"{url}/whoami",
                "headers": {"Authorization": "Bearer {new.api_key}"},
            },
            "revoke": {"method": "DELETE", "url": f"{url}/keys/{{old.key_id}}", "headers": admin},
            "admin": "admin/acme",
        },
        "openai_admin": {"project": PROJECT, "admin": "admin/openai", "base_url": f"{url}/v1"},
        "anthropic_admin": {"admin": "admin/anthropic", "base_url": url},
    }


def rotator_of(name: str, url: str) -> Rotator:
    return make_rotator(installed_rotators()[name], PATH, options_of(url)[name], lambda path: ADMIN)


@pytest.fixture(params=["generated", "http", "openai_admin", "anthropic_admin"])
def subject(request: pytest.FixtureRequest, service: FakeKeyService) -> Subject:
    return Subject(
        rotator_of(request.param, service.url), service, request.param != "generated"
    )


def test_a_new_version_is_another_one_and_passes_its_test(subject: Subject) -> None:
    old = subject.new({}, "t0")
    new = subject.new(old)
    assert new["api_key"] != old["api_key"]
    turn = Turn(PATH, 2, "t1", old)
    subject.rotator.set(turn, new)
    subject.rotator.test(turn, new)


def test_both_versions_are_valid_until_the_old_one_is_revoked(subject: Subject) -> None:
    old = subject.new({}, "t0")
    new = subject.new(old)
    turn = Turn(PATH, 2, "t1", old)
    for fields in (old, new):
        subject.rotator.test(turn, fields)
    subject.rotator.revoke(old)
    subject.rotator.test(turn, new)
    if subject.is_remote:
        assert subject.service.accepted == [new["api_key"]]


def test_a_version_is_revoked_twice_without_an_error(subject: Subject) -> None:
    old = subject.new({}, "t0")
    subject.rotator.revoke(old)
    subject.rotator.revoke(old)


def test_a_version_that_is_refused_fails_its_test_and_no_error_shows_it(subject: Subject) -> None:
    fields = {"api_key": "sk-canary-unknown"}
    with pytest.raises((NotAllowed, InvalidRequest)) as refused:
        subject.rotator.test(Turn(PATH, 2, "t1", fields), fields)
    assert "canary" not in f"{refused.value}{refused.value.__cause__}"


def test_a_repeated_creation_leaves_one_key_at_the_service(subject: Subject) -> None:
    if subject.rotator.by_person:
        with pytest.raises(InvalidRequest, match="fleet secrets rotate"):
            subject.rotator.create(Turn(PATH, 2, "t1", {}))
        return
    subject.new({})
    new = subject.new({})
    if subject.is_remote:
        assert subject.service.accepted == [new["api_key"]]


@pytest.mark.parametrize("status", [400, 401, 404, 503])
def test_no_error_repeats_what_a_failing_service_answers(subject: Subject, status: int) -> None:
    if not subject.is_remote:
        return
    old = subject.new({}, "t0")
    subject.service.fails_with = status
    calls: list[Callable[[], object]] = [
        lambda: subject.rotator.test(Turn(PATH, 2, "t1", old), old),
        lambda: subject.rotator.revoke(old),
    ]
    if not subject.rotator.by_person:
        calls.append(lambda: subject.rotator.create(Turn(PATH, 2, "t1", old)))
    for call in calls:
        try:
            call()
        except FleetError as error:
            assert f"HTTP {status}" in str(error)
            assert "canary" not in f"{error}{error.__cause__}{error.__context__}"
        else:
            # A version that is not found is revoked.
            assert status == 404


def test_a_service_that_is_away_is_tried_again_later() -> None:
    with FakeKeyService() as service:
        url = service.url
    for name in ("http", "openai_admin", "anthropic_admin"):
        rotator = rotator_of(name, url)
        with pytest.raises(SecretsUnavailable) as refused:
            rotator.test(Turn(PATH, 2, "t1", {}), {"api_key": "sk-canary"})
        assert "canary" not in f"{refused.value}{refused.value.__context__}"


def test_generated_values_have_their_forms() -> None:
    made = [
        rotator_of("generated", "").create(Turn(PATH, 2, "t1", {})) for _ in range(20)
    ]
    for each in made:
        assert re.fullmatch(r"[A-Za-z0-9!@#$%^&*]{32}", each["api_key"])
        assert UUID(each["token"]).version == 4
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", each["made"])
    assert len({each["api_key"] for each in made}) == len(made)


def test_an_openai_key_that_a_person_made_is_revoked_by_its_ends(service: FakeKeyService) -> None:
    for number in range(5):
        service.make_key(f"other {number}")
    by_hand = service.make_key("by hand")
    rotator_of("openai_admin", service.url).revoke({"api_key": by_hand.value})
    assert by_hand.value not in service.accepted
    assert len(service.accepted) == 5


def test_an_account_left_beside_another_key_is_not_the_one_that_is_deleted(
    service: FakeKeyService,
) -> None:
    rotator = rotator_of("openai_admin", service.url)
    made = rotator.create(Turn(PATH, 2, "t1", {}))
    by_hand = service.make_key("by hand")
    rotator.revoke({**made, "api_key": by_hand.value})
    assert service.accepted == [made["api_key"]]
    rotator.revoke(made)
    assert service.accepted == []


@pytest.mark.parametrize("name", ["openai_admin", "anthropic_admin"])
def test_a_key_that_is_accepted_but_not_listed_counts_as_not_revoked(
    service: FakeKeyService, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = service.make_key("hidden")
    monkeypatch.setattr("fake_key_service.Key.hint", "sk-other-...0000")
    with pytest.raises(InvalidRequest, match=r"by hand|console"):
        rotator_of(name, service.url).revoke({"api_key": key.value})


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/keys",
        "ftp://example.com/keys",
        "https://{admin.api_key}.example.com",
        "https://user:word@example.com/",
        "file:///etc/hosts",
    ],
    ids=["plain", "ftp", "secret in the host", "login", "file"],
)
def test_an_address_that_would_show_a_secret_is_refused(url: str) -> None:
    options = {**options_of("https://example.com")["http"], "test": {"method": "GET", "url": url}}
    with pytest.raises(InvalidConfig, match=r"options\.test\.url: has to be https"):
        make_rotator(installed_rotators()["http"], PATH, options, lambda path: ADMIN)


def test_a_value_is_encoded_in_an_address(service: FakeKeyService) -> None:
    rotator_of("http", service.url).revoke({"key_id": "a/b?c"})
    assert service.paths == ["/keys/a%2Fb%3Fc"]


def test_a_place_without_a_value_is_named(service: FakeKeyService) -> None:
    with pytest.raises(InvalidRequest, match=r"\{old.key_id\} has no value"):
        rotator_of("http", service.url).revoke({"api_key": "sk-canary"})
