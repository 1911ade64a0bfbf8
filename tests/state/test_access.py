"""Tokens on a real Valkey: what a tenant's handle sees and does, and for how long."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from commands import run_fleet
from pydantic import SecretStr

from fleet import Fleet, Submission, Task
from fleet.access.access import CACHE_SECONDS, MAX_CACHED, Access
from fleet.access.administration import NewToken
from fleet.access.rules import EVERYBODY, Need, digest
from fleet.access.store import TokenChange, TokenStore
from fleet.audit.rules import verify
from fleet.broker.app import fleet_of, make_app, task_routes
from fleet.client import FLEET_NEEDS
from fleet.errors import InvalidRequest, NotAllowed, RetryLater, TaskNotFound, Unavailable
from fleet.policy.rules import LimitKey
from fleet.policy.store import AuditActor
from fleet.settings import Settings

CONFIG = '[access]\nmode = "{}"\n[rates.scopes."tenant:*"]\nrequests = 100\n'
PAYLOAD = {"instruction": "add"}
Command = Callable[..., subprocess.CompletedProcess[str]]


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def settings(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Settings:
    return settings_of(CONFIG.format("tokens"))


@pytest.fixture
def opened(settings: Settings) -> Fleet:
    """The fleet while access was open, with an agent."""
    access = settings.config.access.model_copy(update={"mode": "open"})
    config = settings.config.model_copy(update={"access": access})
    found = Fleet(replace(settings, config=config))
    found._connection.routing.agents.register("codegen-1", "codegen", 10, {})
    return found


class Handles:
    """Handles with tokens that were granted while access was open."""

    def __init__(self, opened: Fleet, settings: Settings) -> None:
        self.opened = opened
        self.settings = settings

    def token(self, tenant: str, *roles: str, **options: Any) -> NewToken:
        return self.opened.grant_token(tenant, roles, **options)

    def __call__(self, tenant: str, *roles: str) -> Fleet:
        return self.of(self.token(tenant, *roles))

    def of(self, made: NewToken) -> Fleet:
        return Fleet(self.settings, token=made.token)


@pytest.fixture
def handles(opened: Fleet, settings: Settings) -> Handles:
    return Handles(opened, settings)


@pytest.fixture
def acme(handles: Handles) -> Fleet:
    return handles("acme", "submit", "read")


def submitted(fleet: Fleet, tenant: str) -> Task:
    return fleet.submit("code_generation", PAYLOAD, tenant=tenant)


def test_a_handle_without_a_token_is_refused_where_tokens_count(settings: Settings) -> None:
    with pytest.raises(NotAllowed, match="set FLEET_TOKEN"):
        Fleet(settings)
    with pytest.raises(NotAllowed, match="holds no token"):
        Fleet(settings, token="guessed")
    with pytest.raises(NotAllowed, match="not known or was revoked"):
        Fleet(settings, token="fleet_" + "a" * 43).tasks()


def test_the_token_of_the_environment_counts_and_is_never_shown(
    handles: Handles, clean_environment: pytest.MonkeyPatch
) -> None:
    made = handles.token("acme", "read")
    clean_environment.setenv("FLEET_TOKEN", made.token.get_secret_value())
    fleet = Fleet.from_env()
    assert fleet.identity().tenant == "acme"
    for shown in (repr(made), repr(fleet.settings), repr(fleet.identity()), str(fleet.tokens)):
        assert made.token.get_secret_value() not in shown


def test_only_the_hash_of_a_token_is_stored(handles: Handles, client: redis.Redis) -> None:
    token = handles.token("acme", "read").token.get_secret_value()
    stored = client.hgetall("{fleet}:tokens")
    assert list(stored) == [digest(token).encode()]
    audit = repr(client.xrange("{fleet}:audit"))
    assert token not in repr(stored) + audit
    assert digest(token) not in audit


def test_a_tenant_submits_for_itself_and_need_not_name_itself(acme: Fleet) -> None:
    assert submitted(acme, "default").record().tenant == "acme"
    assert submitted(acme, "acme").record().tenant == "acme"
    many = acme.submit_many([Submission("code_generation", PAYLOAD)])
    assert many[0].record().tenant == "acme"
    asked = Submission("code_generation", PAYLOAD, tenant="other")
    for refused in (lambda: acme.submit_many([asked]), lambda: acme.dry_run(asked)):
        with pytest.raises(NotAllowed, match="cannot act for tenant other"):
            refused()
    with pytest.raises(NotAllowed, match="cannot act for tenant other"):
        submitted(acme, "other")
    assert {each.tenant for each in acme.tasks()} == {"acme"}


def test_a_foreign_task_is_answered_as_an_unknown_one(opened: Fleet, acme: Fleet) -> None:
    foreign, unknown = submitted(opened, "other").id, "no-such-task"
    for ask in (acme.task, acme.retry_dead, acme.drop_dead):
        sentences = []
        for task_id in (foreign, unknown):
            with pytest.raises(TaskNotFound) as raised:
                ask(task_id)
            sentences.append(str(raised.value).replace(task_id, "ID"))
        assert sentences[0] == sentences[1]
    assert opened.task(foreign).state() == "queued"


def test_a_tenant_sees_the_tasks_of_no_other(opened: Fleet, acme: Fleet) -> None:
    submitted(opened, "other")
    mine = submitted(opened, "acme")
    assert [each.id for each in acme.tasks()] == [mine.id]
    assert acme.task(mine.id).cancel() == "queued"
    with pytest.raises(NotAllowed):
        acme.tasks(tenant="other")
    with pytest.raises(NotAllowed):
        acme.dead(tenant="other")
    with pytest.raises(NotAllowed):
        acme.ledger(tenant="other")
    with pytest.raises(NotAllowed):
        acme.spend(tenant="other")
    assert (acme.dead(), acme.ledger(), acme.spend().tenant) == ([], [], "acme")


def test_a_cancellation_names_the_token(acme: Fleet) -> None:
    task = submitted(acme, "acme")
    task.cancel()
    by = task.record().history[-1].by
    assert by == acme.identity().name.replace(" ", "_")


def test_a_tenant_sees_its_own_limits_rules_and_alerts(opened: Fleet, acme: Fleet) -> None:
    for tenant in ("acme", "other"):
        opened.set_limits(f"tenant:{tenant}", {"daily_usd": 20}, why="agreed")
        opened.set_budget_policy("wait", tenant=tenant, why="agreed")
    opened.set_limits("all", {"hourly_usd": 7}, why="ours")
    opened.set_emergency(["acme", "other"], why="a loop")
    assert [each.key for each in acme.limits()] == [
        LimitKey("tenant:acme", "rolling", "requests"),
        LimitKey("tenant:acme", "day", "dollars"),
    ]
    usage = acme.limit_usage(opened.limits())
    assert {each.scope for each in usage} == {"tenant:acme"}
    assert {each.tasks.tenant for each in acme.controls().overs_in_force()} == {"", "acme"}
    emergency = acme.emergency()
    assert emergency is not None
    assert emergency.tenants == {"acme"}
    keys = ("scope", "window", "window_id", "threshold", "limit", "settled", "held")
    for tenant in ("acme", "other"):
        values = (f"tenant:{tenant}", "day", "d20261201", 50, 10, 5, 0)
        opened._connection.client.xadd("{fleet}:alerts", dict(zip(keys, values, strict=True)))
    assert [each.scope for each in acme.alerts()] == ["tenant:acme"]
    assert len(opened.alerts()) == 2


def test_the_ledger_of_a_tenant_is_searched_for_behind_the_entries_of_others(
    opened: Fleet, acme: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fleet.ledger import store
    from fleet.ledger.rules.entries import LedgerEntry

    monkeypatch.setattr(store, "PAGE", 3)
    numbers = {name for name, kind in LedgerEntry.__annotations__.items() if "int" in str(kind)}
    fields = {name: 0 if name in numbers else "x" for name in LedgerEntry._fields if name != "id"}
    tenants = ["acme", *["other"] * 7, "acme", "other"]
    for tenant in tenants:
        opened._connection.client.xadd("{fleet}:ledger", {**fields, "tenant": tenant})
    assert [each.tenant for each in acme.ledger()] == ["acme", "acme"]
    assert [each.tenant for each in acme.ledger(1)] == ["acme"]
    assert len(opened.ledger()) == len(tenants)


def test_roles_bound_what_a_handle_does(opened: Fleet, handles: Handles) -> None:
    task = submitted(opened, "acme")
    reader, writer = handles("acme", "read"), handles("acme", "submit")
    with pytest.raises(NotAllowed, match=r"Task\.cancel needs the role submit"):
        reader.task(task.id).cancel()
    with pytest.raises(NotAllowed, match=r"Fleet\.submit needs"):
        submitted(reader, "acme")
    with pytest.raises(NotAllowed, match=r"Task\.record needs the role read"):
        writer.task(task.id).record()
    assert writer.task(task.id).cancel() == "queued"
    operator = handles("", "operate")
    operator.drain_pool("codegen")
    with pytest.raises(NotAllowed, match=r"Fleet\.set_limits needs the role administer"):
        operator.set_limits("all", {"daily_usd": 1}, why="no")
    with pytest.raises(NotAllowed, match="concerns the whole fleet"):
        handles("acme", "administer").drain_pool("codegen")


def test_an_operator_sees_every_tenant_and_is_named_in_the_audit(
    opened: Fleet, handles: Handles
) -> None:
    submitted(opened, "acme")
    submitted(opened, "other")
    operator = handles("", "administer")
    assert {each.tenant for each in operator.tasks()} == {"acme", "other"}
    operator.set_limits("all", {"daily_usd": 1}, why="agreed", by="ann")
    operator.drain_pool("codegen")
    assert operator.audit(1)[0].by == f"{operator.identity().name}: ann"


def test_while_access_is_open_a_token_changes_nothing(opened: Fleet) -> None:
    handle = Fleet(opened.settings, token="anything")
    assert handle.identity() == EVERYBODY
    submitted(handle, "other")
    handle.set_limits("all", {"daily_usd": 1}, why="agreed", by="ann")
    assert [each.by for each in handle.audit()] == ["ann"]


def test_a_revoked_token_is_refused_within_the_time_of_the_cache(handles: Handles) -> None:
    made, clock = handles.token("acme", "read"), Clock()
    access = Access(handles.opened._access.tokens, "tokens", clock)
    token = made.token.get_secret_value()
    assert access.identify(token).tenant == "acme"
    handles.opened.revoke_token(made.id, why="lost")
    clock.now += CACHE_SECONDS - 0.001
    assert access.identify(token).tenant == "acme"
    clock.now += 0.001
    with pytest.raises(NotAllowed, match="not known or was revoked"):
        access.identify(token)
    with pytest.raises(InvalidRequest, match="no token has the id"):
        handles.opened.revoke_token(made.id)


def test_an_expiring_token_is_not_kept_beyond_its_end(handles: Handles) -> None:
    made, clock = handles.token("acme", "read", seconds=3.0), Clock()
    access = Access(handles.opened._access.tokens, "tokens", clock)
    token = made.token.get_secret_value()
    access.identify(token)
    assert access._known[digest(token)].until <= clock.now + 3.0
    tokens = handles.opened._access.tokens
    (digested,) = tokens.all()
    ended = made.grant._replace(expires=1.0)
    tokens.change([TokenChange(digested, made.grant, ended)], AuditActor("test", ""))
    clock.now += 3.0
    with pytest.raises(NotAllowed, match="has expired"):
        access.identify(token)


def test_a_rotated_token_and_its_successor_are_both_valid_during_the_grace(
    handles: Handles,
) -> None:
    old = handles.token("acme", "read", seconds=86_400.0)
    new = handles.opened.rotate_token(old.id, grace=600)
    assert handles.of(old).identity().tenant == handles.of(new).identity().tenant == "acme"
    with pytest.raises(InvalidRequest, match=f"replaced already, by {new.id}"):
        handles.opened.rotate_token(old.id)
    grants = handles.opened.tokens()
    assert grants[old.id].successor == new.id
    ends = {name: grant.expires or 0.0 for name, grant in grants.items()}
    assert 500 < ends[old.id] - grants[old.id].made < 700
    assert 86_000 < ends[new.id] - grants[new.id].made <= 86_400
    last = handles.opened.rotate_token(new.id, grace=0)
    with pytest.raises(NotAllowed, match="has expired"):
        handles.of(new).tasks()
    assert handles.of(last).tasks() == []


def test_a_tenants_administrator_grants_for_its_tenant_alone(handles: Handles) -> None:
    other = handles.token("other", "read")
    boss = handles("acme", "administer")
    made = boss.grant_token("acme", ["read"])
    with pytest.raises(NotAllowed):
        boss.grant_token("other", ["read"])
    assert boss.grant_token("", ["read"]).grant.tenant == "acme"
    assert {each.tenant for each in boss.tokens().values()} == {"acme"}
    for change in (boss.revoke_token, boss.rotate_token):
        with pytest.raises(InvalidRequest, match="no token has the id"):
            change(other.id)
    boss.revoke_token(made.id)


def test_a_change_that_another_process_overtook_changes_nothing(handles: Handles) -> None:
    made = handles.token("acme", "read")
    store, actor = handles.opened._access.tokens, AuditActor("test", "")
    (digested,) = store.all()
    stale = made.grant._replace(by="somebody else")
    with pytest.raises(RetryLater, match="another process"):
        store.change([TokenChange(digested, stale, None)], actor)
    audit = handles.opened._connection.policy.audit
    entries = audit.size()
    revoke = [TokenChange(digested, made.grant, None)]
    store.change(revoke, actor)
    store.change(revoke, actor)
    assert audit.size() == entries + 1
    assert verify(audit.chain(), None).is_intact


def test_a_checked_call_asks_redis_nothing(acme: Fleet) -> None:
    acme.identity()
    client = acme._connection.client
    before = client.info("commandstats").get("cmdstat_hget", {}).get("calls", 0)
    for _ in range(50):
        acme._guard.check(FLEET_NEEDS["submit"], "submit")
    after = client.info("commandstats").get("cmdstat_hget", {}).get("calls", 0)
    assert after == before


def test_many_tokens_do_not_fill_the_memory(opened: Fleet, settings: Settings) -> None:
    access = Access(opened._access.tokens, "tokens")
    token = opened.grant_token("acme", ["read"]).token.get_secret_value()
    access.identify(token)
    kept = access._known.popitem()[1]
    access._known.update({str(n): kept for n in range(MAX_CACHED)})
    access.identify(token)
    assert len(access._known) == 1


def test_redis_away_is_no_permission(
    handles: Handles, clean_environment: pytest.MonkeyPatch
) -> None:
    token = handles.token("acme", "read").token
    update = {"broker_url": SecretStr("redis://127.0.0.1:1/0"), "socket_timeout": 0.2}
    environment = handles.settings.environment.model_copy(update=update)
    with pytest.raises(Unavailable):
        Fleet(replace(handles.settings, environment=environment), token=token).tasks()


@pytest.mark.parametrize(
    ("path", "role", "allowed"),
    [
        ("tenants/acme/key", "read", True),
        ("tenants/acme/key", "administer", False),
        ("tenants/other/key", "read", False),
        ("providers/openai", "read", False),
        ("tenants/acmeother/key", "read", False),
    ],
)
def test_a_tenant_uses_the_secrets_under_its_name(
    handles: Handles, path: str, role: Any, allowed: bool
) -> None:
    guard = handles("acme", "read")._guard
    if allowed:
        guard.check_secret(role, path)
        return
    with pytest.raises(NotAllowed):
        guard.check_secret(role, path)


def test_an_application_of_celery_submits_for_its_tenant(
    handles: Handles, settings: Settings
) -> None:
    token = handles.token("acme", "submit").token
    environment = settings.environment.model_copy(update={"token": token})
    app = make_app(replace(settings, environment=environment), set_as_current=False)
    sent = app.send_task("agents.code_generator", args=[PAYLOAD])
    assert fleet_of(app).tasks.records.read(sent.id).tenant == "acme"
    with pytest.raises(NotAllowed, match="cannot act for tenant other"):
        app.send_task("agents.code_generator", args=[PAYLOAD], kwargs={"tenant": "other"})
    bare = make_app(settings, set_as_current=False)
    with pytest.raises(NotAllowed, match="set FLEET_TOKEN"):
        bare.send_task("agents.code_generator", args=[PAYLOAD])
    (router,) = task_routes(settings)
    with pytest.raises(NotAllowed, match="set FLEET_TOKEN"):
        router("agents.code_generator", [PAYLOAD], {}, {})


def test_a_server_asks_the_same_check_for_each_of_its_callers(handles: Handles) -> None:
    access = Access(TokenStore(*_parts(handles.opened)), "tokens")
    who = access.identify(handles.token("acme", "read").token.get_secret_value())
    access.check(who, Need("read"), "GET /tasks", "acme")
    with pytest.raises(NotAllowed, match="cannot act for tenant other"):
        access.check(who, Need("read"), "GET /tasks", "other")
    with pytest.raises(NotAllowed, match="POST /tasks needs the role submit"):
        access.check(who, Need("submit"), "POST /tasks", "acme")


def _parts(fleet: Fleet) -> tuple[Any, Any, Any]:
    store = fleet._access.tokens
    return store.client, store.keys, store.scripts


@pytest.fixture
def command(opened: Fleet, tmp_path: Path) -> Command:
    """A command, with a token if one is given."""

    def run(*arguments: str, token: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **({"FLEET_TOKEN": token} if token else {})}
        return run_fleet(*arguments, folder=tmp_path, environment=environment)

    return run


def test_the_first_token_is_granted_while_access_is_open(
    command: Command, tmp_path: Path, settings_of: Callable[[str], Settings]
) -> None:
    refused = command("access", "list")
    assert (refused.returncode, "set FLEET_TOKEN" in refused.stderr) == (2, True)
    settings_of(CONFIG.format("open"))
    grant = ("access", "grant", "--all-tenants", "--role", "administer", "--file", "admin.token")
    assert "is in admin.token" in command(*grant).stdout
    settings_of(CONFIG.format("tokens"))
    file = tmp_path / "admin.token"
    assert file.stat().st_mode & 0o777 == 0o600
    token = file.read_text().strip()
    (listed,) = json.loads(command("access", "list", "--json", token=token).stdout)
    assert (listed["tenant"], listed["roles"], listed["expires"]) == (None, ["administer"], None)
    assert command("access", "whoami", token=token).stdout.startswith(
        f"token {listed['id']} of the whole fleet: administer; valid until it is revoked"
    )
    again = command(*grant, token=token)
    assert (again.returncode, "exists already" in again.stderr) == (2, True)


def test_tokens_are_granted_rotated_and_revoked_on_the_command_line(
    command: Command, handles: Handles
) -> None:
    boss = handles.token("", "administer").token.get_secret_value()
    grant = ("access", "grant", "acme", "--role", "submit", "--role", "read", "--expires", "90d")
    done = command(*grant, "--why", "a pilot", token=boss)
    assert done.returncode == 0, done.stderr
    token = done.stdout.strip()
    assert "it is not shown again" in done.stderr
    who = json.loads(command("access", "whoami", "--json", token=token).stdout)
    assert (who["tenant"], who["roles"], who["mode"]) == ("acme", ["submit", "read"], "tokens")
    rotate = ("access", "rotate", who["id"], "--grace", "1h", "--json")
    made = json.loads(command(*rotate, token=boss).stdout)
    assert made["token"] not in command("access", "list", "--json", token=boss).stdout
    for each in (token, made["token"]):
        assert command("tasks", token=each).returncode == 0
    revoke = ("access", "revoke", made["id"], "--why", "a log had it")
    assert "is revoked" in command(*revoke, token=boss).stdout
    assert command("tasks", token=made["token"]).returncode == 2
    table = " ".join(command("audit", token=boss).stdout.split())
    for shown in ("a pilot", "a log had it", f"grant made token {who['id']}"):
        assert shown in table


@pytest.mark.parametrize(
    "refused",
    [
        ("pools",),
        ("agents",),
        ("audit",),
        ("ledger", "verify"),
        ("ledger", "correct", "1-0", "--amount", "1", "--why", "x"),
        ("spend", "--last-report"),
        ("models",),
        ("models", "train"),
        ("models", "refresh", "--from", "none.json"),
        ("limits", "set", "tenant:acme", "--requests", "5", "--why", "x"),
        ("access", "list"),
        ("secrets", "list", "providers/"),
        ("secrets", "list", "tenants/"),
        ("secrets", "get", "tenants/other/openai"),
        ("secrets", "get", "tenants/acme/openai", "--reveal"),
        ("tasks", "--tenant", "other"),
        ("submit", "code_generation", "{}", "--tenant", "other"),
    ],
    ids=" ".join,
)
def test_a_tenant_is_refused_what_is_not_its_own(
    command: Command, handles: Handles, refused: tuple[str, ...]
) -> None:
    token = handles.token("acme", "submit", "read").token.get_secret_value()
    done = command(*refused, token=token)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "error: " in done.stderr
    assert token not in done.stderr


@pytest.mark.parametrize(
    "allowed",
    [
        ("tasks",),
        ("dead", "list"),
        ("ledger", "show"),
        ("ledger", "export"),
        ("spend", "--days", "2"),
        ("limits", "show"),
        ("budget", "show"),
        ("budget", "alerts"),
        ("emergency", "show"),
        ("secrets", "list"),
    ],
    ids=" ".join,
)
def test_a_tenant_reads_its_own_on_the_command_line(
    command: Command, handles: Handles, allowed: tuple[str, ...]
) -> None:
    token = handles.token("acme", "read").token.get_secret_value()
    done = command(*allowed, token=token)
    assert done.returncode == 0, done.stderr


def test_the_status_says_what_access_is(command: Command, handles: Handles) -> None:
    parts = json.loads(command("status", "--json").stdout)["parts"]
    (access,) = [each for each in parts if each["name"] == "access"]
    assert (access["ok"], access["where"]) == (False, "tokens")
    assert not any(each["name"].startswith("pool") for each in parts)
    token = handles.token("", "read").token.get_secret_value()
    parts = json.loads(command("status", "--json", token=token).stdout)["parts"]
    assert any(each["name"].startswith("pool") for each in parts)
