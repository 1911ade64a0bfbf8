"""Roles and tokens: who may do what, and that no method is left out of the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from fleet.access.guarded import guarded
from fleet.access.rules import (
    EVERY_TENANT,
    EVERYBODY,
    FORM,
    ROLES,
    Grant,
    Identity,
    Need,
    Role,
    digest,
    foreign,
    new_grant,
    refusal,
    secret_tenant,
    succeed,
    token_id,
)
from fleet.client import FLEET_NEEDS, TASK_NEEDS, Fleet, Task
from fleet.errors import InvalidRequest

MAY: dict[Role, set[Role]] = {
    "submit": {"submit"},
    "read": {"read"},
    "operate": {"read", "operate"},
    "administer": {"submit", "read", "operate", "administer"},
}
"""Written out, and not taken from the rules."""
CLI = Path(__file__).parents[2] / "fleet" / "cli"
DAY = 86_400.0


def whoever(role: Role, tenant: str = "acme") -> Identity:
    return Identity(tenant, frozenset({role}), "abc")


@pytest.mark.parametrize("needed", get_args(Role))
@pytest.mark.parametrize("role", get_args(Role))
@pytest.mark.parametrize("tenant", ["acme", EVERY_TENANT], ids=["tenant", "fleet"])
@pytest.mark.parametrize("whole", [False, True], ids=["own", "whole"])
def test_a_role_does_what_it_includes_and_a_tenant_nothing_of_the_whole_fleet(
    role: Role, needed: Role, tenant: str, whole: bool
) -> None:
    allowed = needed in MAY[role] and not (whole and tenant)
    sentence = refusal(whoever(role, tenant), Need(needed, whole), "this")
    assert (sentence == "") == allowed
    assert allowed or sentence.startswith("this ")


METHODS = {**FLEET_NEEDS, **{f"task.{name}": need for name, need in TASK_NEEDS.items()}}
CHANGES_NOTHING = {
    *("task", "identity", "tasks", "dead", "ledger", "spend", "start_wait", "controls", "limits"),
    *("limit_usage", "alerts", "emergency", "agents", "audit", "health", "malformed", "pools"),
    *("routes", "scaling_history", "scaling_policies", "scaling_policy_of", "sizes", "waiting"),
    *("task.decision", "task.model_decision", "task.record", "task.saved", "task.state"),
    *("task.result", "task.wait"),
}


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_role_read_changes_nothing_and_misses_nothing_of_the_whole_fleet(name: str) -> None:
    allowed = refusal(whoever("read", EVERY_TENANT), METHODS[name], name) == ""
    assert allowed == (name in CHANGES_NOTHING)


@pytest.mark.parametrize(
    ("role", "name"),
    [
        ("read", "task.cancel"),
        ("submit", "drain_pool"),
        ("submit", "tasks"),
        ("operate", "set_limits"),
        ("operate", "set_budget_policy"),
        ("operate", "grant_token"),
        ("operate", "submit"),
    ],
)
def test_a_role_stops_where_the_next_begins(role: Role, name: str) -> None:
    assert refusal(whoever(role, EVERY_TENANT), METHODS[name], name)
    assert not refusal(whoever("administer", EVERY_TENANT), METHODS[name], name)


def test_open_access_is_that_of_an_administrator_of_the_whole_fleet() -> None:
    assert all(not refusal(EVERYBODY, need, name) for name, need in METHODS.items())


@pytest.mark.parametrize("decorated", [Fleet, Task])
def test_every_public_method_asks_first(decorated: type) -> None:
    needs = FLEET_NEEDS if decorated is Fleet else TASK_NEEDS
    for name in needs:
        found = getattr(decorated, name)
        method = found.fget if isinstance(found, property) else found
        assert hasattr(method, "__wrapped__"), name


def test_a_method_without_an_entry_and_an_entry_without_a_method_are_refused() -> None:
    class Handle:
        def look(self) -> None: ...

        def change(self) -> None: ...

    with pytest.raises(TypeError, match="change, fly"):
        guarded({"look": Need("read"), "fly": Need("read")})(Handle)


def test_a_guarded_method_names_who_acts() -> None:
    class Guard:
        def actor(self, by: str) -> str:
            return f"token 1: {by}"

    @guarded({"change": Need("operate")})
    class Handle:
        _guard = Guard()
        asked: list[Any] = []  # noqa: RUF012 - of this test alone

        def _admit(self, need: Need, what: str) -> None:
            self.asked.append((need, what))

        def change(self, pool: str, *, by: str = "") -> str:
            return f"{pool} by {by}"

    assert Handle().change("a", by="ops") == "a by token 1: ops"
    assert Handle.asked == [(Need("operate"), "Handle.change")]


def test_a_tenant_acts_for_itself_alone() -> None:
    assert not foreign(whoever("read"), "acme")
    assert not foreign(whoever("read", EVERY_TENANT), "other")
    assert "cannot act for tenant other" in foreign(whoever("read"), "other")


@pytest.mark.parametrize(
    ("path", "tenant"),
    [
        ("tenants/acme/openai", "acme"),
        ("tenants/acme", None),
        ("providers/openai", None),
        ("tenantsacme/openai", None),
        ("tenants//openai", ""),
    ],
)
def test_a_path_tells_whose_secret_it_is(path: str, tenant: str | None) -> None:
    assert secret_tenant(path) == tenant


def test_a_grant_survives_storage_and_what_a_later_version_adds() -> None:
    grant = new_grant("acme", ["read", "submit"], 100.0, "ops", DAY)
    assert Grant.from_json(grant.to_json()) == grant
    later = grant.to_json().replace('"read"', '"read", "fly"').replace("}", ', "colour": 1}')
    assert Grant.from_json(later) == grant
    assert (grant.holds(100.0 + DAY - 1), grant.holds(100.0 + DAY)) == (True, False)
    assert new_grant("acme", ["read"], 100.0, "ops", None).holds(1e12)


@pytest.mark.parametrize(
    ("tenant", "roles", "seconds", "sentence"),
    [
        ("acme", [], None, "needs a role"),
        ("acme", ["fly"], None, "no role is called 'fly'"),
        ("acme", ["operate"], None, "--all-tenants"),
        ("a b", ["read"], None, "no tenant name"),
        ("acme", ["read"], 0.0, "over 0"),
        ("acme", ["read"], 1e12, "ten years"),
    ],
    ids=["none", "unknown", "operate", "name", "at-once", "for-ever"],
)
def test_a_grant_that_makes_no_sense_is_refused(
    tenant: str, roles: list[str], seconds: float | None, sentence: str
) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        new_grant(tenant, roles, 0.0, "ops", seconds)


def test_two_tokens_are_valid_during_the_grace_and_never_three() -> None:
    first = new_grant("acme", ["read"], 0.0, "ops", DAY)
    old, new = succeed(first, "second", 10.0, "ci", 60.0, None)
    assert (old.expires, old.successor, old.roles) == (70.0, "second", first.roles)
    assert (new.made, new.by, new.expires, new.successor) == (10.0, "ci", None, "")
    with pytest.raises(InvalidRequest, match="replaced already, by second"):
        succeed(old, "third", 20.0, "ci", 60.0, None)
    with pytest.raises(InvalidRequest, match="expired"):
        succeed(first, "second", DAY, "ci", 60.0, None)
    assert succeed(first, "second", DAY - 10, "ci", 60.0, DAY)[0].expires == DAY
    with pytest.raises(InvalidRequest, match="grace"):
        succeed(first, "second", 10.0, "ci", -1.0, None)


def test_the_id_of_a_token_tells_nothing_of_the_token() -> None:
    token = "fleet_" + "a" * 43
    assert FORM.fullmatch(token)
    assert token_id(digest(token)) not in token
    assert len(digest(token)) == 64


def test_the_roles_of_the_test_are_all() -> None:
    assert set(MAY) == set(ROLES)


def test_no_command_goes_round_the_check() -> None:
    """`fleet down` and `fleet status` look at this machine's fleet before they know a token."""
    found = {path.name for path in CLI.glob("*.py") if "open_connection(" in path.read_text()}
    assert found == {"connect.py", "status.py", "up.py"}
