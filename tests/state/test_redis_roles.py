"""The roles of Redis users: what each needs it may, and what it must not it may not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from fleet import Fleet, Submission
from fleet.audit.log import AuditLog
from fleet.audit.origin import Origin
from fleet.errors import InvalidConfig, NotAllowed
from fleet.operations.broker import ping
from fleet.operations.redis_users import redis_users
from fleet.policy.rules import LimitKey
from fleet.policy.store import AuditActor
from fleet.redis.acl import AclPlace, acl_rule
from fleet.redis.keys import Keys, lists
from fleet.redis.permissions import Permissions, needed
from fleet.redis.roles import BY_CELERY, READS, ROLES, changes_of
from fleet.redis.scripts import NAMES, Scripts
from fleet.settings import Settings
from fleet.tasks.connection import open_connection

KEYS = Keys("{fleet}")
PLACE = AclPlace(KEYS, queues=("shop",))
PASSWORD = "a password of a role"
ONLY_ADMINISTRATORS = {"change_tokens", "correct", "dead_done", "policy"}
TASK, LEDGER, AUDIT, POLICY = KEYS.task("1"), KEYS.ledger, KEYS.audit, KEYS.policy
NEVER = (
    *(["EVAL", "return 1", "1", TASK], ["CONFIG", "GET", "*"], ["KEYS", "*"], ["FLUSHALL"]),
    *(["FLUSHDB"], ["RESTORE", TASK, "0", "x"], ["DUMP", TASK], ["ACL", "LIST"], ["SHUTDOWN"]),
    *(["SCRIPT", "FLUSH"], ["FUNCTION", "LOAD", "x"], ["DEBUG", "SLEEP", "0"], ["MONITOR"]),
    *(["CLIENT", "KILL", "1.1.1.1:1"], ["REPLICAOF", "NO", "ONE"], ["MODULE", "LIST"], ["SAVE"]),
    *(["MIGRATE", "h", "1", TASK, "0", "1"], ["GET", "others"], ["SET", "others", "1"]),
    *(["SUBSCRIBE", "others"], ["PUBLISH", "others", "x"], ["RANDOMKEY"], ["SORT", TASK]),
)
WRITES = {
    "a task": ["HSET", TASK, "state", "succeeded"],
    "a queue": ["LPUSH", "{fleet}.codegen", "message"],
    "a lease": ["ZADD", KEYS.leases, "1", "x"],
    "the ledger": ["XADD", LEDGER, "*", "a", "b"],
    "the ledger's past": ["XTRIM", LEDGER, "MAXLEN", "0"],
    "the ledger's file list": ["DEL", KEYS.archives],
    "the audit": ["XADD", AUDIT, "*", "a", "b"],
    "the audit's past": ["XTRIM", AUDIT, "MAXLEN", "0"],
    "the audit itself": ["DEL", AUDIT],
    "the policy": ["HSET", POLICY, "version", "9"],
    "beat's lease": ["SET", KEYS.beat, "x"],
    "an agent": ["HSET", KEYS.agent("a"), "status", "idle"],
    "a roll-up": ["HSET", KEYS.rollup("20261201"), "a", "b"],
    "who has which secret": ["HSET", KEYS.secret_processes, "a", "b"],
    "which secret is current": ["HSET", KEYS.secrets, "a", "1"],
    "grants": ["HSET", KEYS.tokens, "a", "b"],
    "remote control": ["PUBLISH", "/0.celery.pidbox", "x"],
}
READ = {
    "a task's record": ["HGETALL", TASK],
    "messages": ["LRANGE", "{fleet}.codegen", "0", "-1"],
    "a queue's length": ["LLEN", "{fleet}.codegen"],
    "an agent's record": ["HGETALL", KEYS.agent("a")],
    "a result of Celery's": ["GET", "celery-task-meta-1"],
}
SUBMITTED = {"a task", "a queue", "the audit", "who has which secret"}
MAY_WRITE = {
    "producer": SUBMITTED,
    "worker": SUBMITTED | {"a lease", "the ledger", "an agent", "remote control"},
    "beat": set(WRITES) - {"the audit itself", "the policy", "grants", "remote control"},
    "exporter": set(),
    "flower": SUBMITTED | {"remote control"},
    "keda": set(),
    "administrator": set(WRITES),
}
MAY_READ = {
    **{role: set(READ) for role in ("producer", "worker", "beat", "flower", "administrator")},
    "exporter": {"a queue's length", "an agent's record"},
    "keda": {"a queue's length"},
}


@pytest.fixture
def users(client: redis.Redis) -> Iterator[redis.Redis]:
    for name, role in ROLES.items():
        rule = acl_rule(role, PLACE)
        client.execute_command("ACL", "SETUSER", name, *rule, "on", f">{PASSWORD}")
    yield client
    client.acl_deluser(*ROLES)


@pytest.fixture
def login(users: redis.Redis, valkey_url: str) -> Iterator[Callable[[str], redis.Redis]]:
    port = urlsplit(valkey_url).port or 0
    opened: list[redis.Redis] = []

    def as_role(role: str) -> redis.Redis:
        opened.append(redis.Redis(port=port, username=role, password=PASSWORD))
        return opened[-1]

    yield as_role
    for each in opened:
        each.close()


def may(client: redis.Redis, role: str, command: list[str]) -> bool:
    """What Redis says of a user and a command, without running it. Arguments of a form are filled
    up to as many as the command takes."""
    (found,) = client.execute_command("COMMAND", "INFO", command[0]).values()
    arity = found["arity"]
    words = command if arity < 0 else command[:arity]
    words = [*words, *command[-1:] * (abs(arity) - len(words))]
    return client.execute_command("ACL", "DRYRUN", role, *words) == b"OK"


def test_every_script_is_run_by_a_role() -> None:
    run = {name for role, each in ROLES.items() if role != "administrator" for name in each.scripts}
    assert run <= set(NAMES)
    assert set(NAMES) - run == ONLY_ADMINISTRATORS


def test_what_only_reads_is_known_by_redis_as_that(client: redis.Redis) -> None:
    known = {name.upper(): row for name, row in client.command().items()}
    assert {name for name in READS if "readonly" not in known[name]["flags"]} == {"WATCH"}
    for name in changes_of(NAMES):
        assert "write" in known[name]["flags"], name


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_what_it_needs(users: redis.Redis, role: str) -> None:
    rows = needed(ROLES[role], PLACE)
    assert rows
    assert [row for row in rows if not may(users, role, row)] == []


@pytest.mark.parametrize("role", ROLES)
def test_a_role_changes_and_reads_what_it_should_alone(users: redis.Redis, role: str) -> None:
    written = {what for what, command in WRITES.items() if may(users, role, command)}
    assert written == MAY_WRITE[role]
    read = {what for what, command in READ.items() if may(users, role, command)}
    assert read == MAY_READ[role]


@pytest.mark.parametrize("role", ROLES)
def test_no_role_may_do_what_nobody_needs(
    users: redis.Redis, login: Callable[[str], redis.Redis], role: str
) -> None:
    never = [row for row in NEVER if not (role == "keda" and row[0] == "EVAL")]
    assert [row for row in never if may(users, role, row)] == []
    one = login(role)
    for row in (["CONFIG", "GET", "*"], ["KEYS", "*"], ["GET", "others"], ["FLUSHALL"]):
        with pytest.raises(redis.exceptions.NoPermissionError):
            one.execute_command(*row)


@pytest.mark.parametrize("role", sorted(set(ROLES) - {"keda", "administrator"}))
def test_a_script_changes_no_more_than_its_user_may(
    login: Callable[[str], redis.Redis], role: str
) -> None:
    one = login(role)
    sha = one.script_load("return redis.call('HSET', KEYS[1], 'version', '9')")
    with pytest.raises(redis.exceptions.ResponseError, match=r"(?i)permission|ACL"):
        one.evalsha(sha, 1, POLICY)


def test_kedas_script_counts_and_changes_nothing(
    users: redis.Redis, login: Callable[[str], redis.Redis]
) -> None:
    keda, queue = login("keda"), lists("{fleet}.codegen")[1]
    users.lpush(queue, "message")
    assert keda.eval("return redis.call('llen', KEYS[1])", 1, queue) == 1
    for script, key in (
        ("return redis.call('lpop', KEYS[1])", queue),
        ("return redis.call('lrange', KEYS[1], 0, -1)", queue),
        ("return redis.call('hgetall', KEYS[1])", TASK),
        ("return redis.call('hlen', 'others')", queue),
    ):
        with pytest.raises(redis.exceptions.ResponseError, match=r"(?i)permission|ACL"):
            keda.eval(script, 1, key)


def test_a_producer_submits_and_cancels_and_changes_no_policy(
    users: redis.Redis,
    settings_of: Callable[[str], Settings],
    clean_environment: pytest.MonkeyPatch,
    valkey_url: str,
) -> None:
    settings = settings_of('[pools.codegen]\nagent_type = "code_generator"\nslots = 2')
    boss = open_connection(settings)
    boss.routing.agents.register("codegen-1", "codegen", 2, {})
    login = valkey_url.replace("://", f"://producer:{PASSWORD.replace(' ', '%20')}@")
    clean_environment.setenv("FLEET_BROKER_URL", login)
    fleet = Fleet.from_env()
    task = fleet.submit("code_generation", {"instruction": "add"}, idempotency_key="once")
    assert [each.id for each in fleet.tasks()] == [task.id]
    assert task.cancel()
    two = [Submission("code_generation", {"instruction": "add"})] * 2
    assert len(fleet.submit_many(two)) == 2
    connection = open_connection(fleet.settings)
    connection.policy.audit.act("read", "signing", 1, Origin("app", "here"))
    limit = {LimitKey("tenant:acme", "day", "dollars"): 5}
    with pytest.raises(NotAllowed, match=r"(?i)hset|hincrby|permission"):
        connection.policy.store.set_limits(limit, AuditActor("app", "more"))
    assert boss.policy.store.read().limits == {}
    ping(fleet.settings, "producer")
    ping(fleet.settings)
    with pytest.raises(NotAllowed, match="rights of the role worker"):
        ping(fleet.settings, "worker")


def test_the_check_names_what_a_user_lacks(
    users: redis.Redis, login: Callable[[str], redis.Redis]
) -> None:
    rule = acl_rule(ROLES["exporter"], AclPlace(KEYS, has_selectors=False))
    users.execute_command("ACL", "SETUSER", "exporter", *rule, "-hgetall", "on", f">{PASSWORD}")
    one = login("exporter")
    permissions = Permissions(one, KEYS, Scripts(one))
    with pytest.raises(NotAllowed, match=r"may not run: HGETALL .* the role exporter"):
        permissions.check("exporter")
    with pytest.raises(NotAllowed, match=r"and .* more.* the role administrator"):
        permissions.check()


@pytest.mark.parametrize("role", ROLES)
def test_without_selectors_a_role_has_what_it_needs_too(
    client: redis.Redis, role: str
) -> None:
    place = AclPlace(KEYS, has_selectors=False)
    rule = acl_rule(ROLES[role], place)
    assert not any(word.startswith(("(", "%")) for word in rule)
    client.execute_command("ACL", "SETUSER", role, *rule, "on", f">{PASSWORD}")
    try:
        assert [row for row in needed(ROLES[role], place) if not may(client, role, row)] == []
        assert not may(client, role, ["FLUSHALL"])
        assert not may(client, role, ["GET", "others"])
    finally:
        client.acl_deluser(role)


@pytest.mark.parametrize("role", ["producer", "worker"])
def test_a_plain_queue_is_served_where_it_is_named(users: redis.Redis, role: str) -> None:
    for queue in ("shop", *lists("shop"), "shop:wake", "shop:line", "shop:pushed:1"):
        assert may(users, role, ["LPUSH", queue, "x"])
        assert may(users, role, ["EVALSHA", "x", "1", queue])
    assert not may(users, role, ["LPUSH", "shopping", "x"])


def test_applying_a_rule_again_takes_the_former_rights_away(client: redis.Redis) -> None:
    for role in ("administrator", "exporter"):
        rule = acl_rule(ROLES[role], PLACE)
        client.execute_command("ACL", "SETUSER", "one", *rule, "on", f">{role} password")
    found = client.acl_getuser("one")
    client.acl_deluser("one")
    assert len(found["passwords"]) == 1
    assert len(found["selectors"]) == 2


def test_passwords_are_made_once_and_kept_private(tmp_path: Path) -> None:
    folder = tmp_path / "passwords"
    users = redis_users("fleet", PLACE, folder, ROLES)
    assert [user.name for user in users] == [f"fleet-{name}" for name in ROLES]
    assert len({user.password_hash for user in users}) == len(ROLES)
    assert folder.stat().st_mode & 0o777 == 0o700
    for user in users:
        assert user.password_file.stat().st_mode & 0o777 == 0o600
        assert user.password_file.read_text().strip() not in " ".join(user.words)
    again = redis_users("fleet", PLACE, folder, ROLES)
    assert [user.words for user in again] == [user.words for user in users]
    users[0].password_file.chmod(0o644)
    with pytest.raises(InvalidConfig, match="others may read the password"):
        redis_users("fleet", PLACE, folder, ["producer"])
    users[1].password_file.write_text("short\n")
    with pytest.raises(InvalidConfig, match="at least 16 printable characters"):
        redis_users("fleet", PLACE, folder, ["worker"])


def test_celery_may_do_nothing_with_keys_of_the_fleet_that_its_role_may_not(
    users: redis.Redis,
) -> None:
    for command in BY_CELERY:
        row = [command, POLICY, POLICY, POLICY]
        if command not in READS:
            assert not may(users, "worker", row), command


def test_the_audit_is_written_by_each_role_that_reads_secrets(
    login: Callable[[str], redis.Redis],
) -> None:
    for role in ("producer", "worker", "beat", "flower", "administrator"):
        one = login(role)
        assert AuditLog(one, KEYS, Scripts(one)).act("read", "a", 1, Origin(role, "here"))
