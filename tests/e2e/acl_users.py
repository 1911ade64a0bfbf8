"""A user of Redis for each role, and processes that run as such a user.

`make test-acl` runs all end-to-end tests in this way: each worker, beat, Flower and ops endpoint
has the rights of its role alone. The tests themselves stay the default user.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from urllib.parse import quote, urlsplit

import redis

from fleet.redis.acl import AclPlace, acl_rule
from fleet.redis.keys import Keys
from fleet.redis.roles import ROLES

EVERYWHERE = "FLEET_TEST_ACL"
"""If this variable is set, every process that the tests start is a user of its role."""
QUEUES = ("shop*", "celery*")
"""Plain queues of the tests' applications."""
PASSWORD = "role"


def create_users(
    root: redis.Redis, password: str, queues: tuple[str, ...] = (), namespace: str = "fleet"
) -> None:
    """Create or change a user for each role, by its name."""
    place = AclPlace(Keys(f"{{{namespace}}}"), queues=queues)
    for name, role in ROLES.items():
        rule = acl_rule(role, place)
        root.execute_command("ACL", "SETUSER", name, *rule, "on", f">{password}")


def environment_of(
    environment: Mapping[str, str],
    role: str | None,
    url_of: Callable[[str], str] | None = None,
) -> dict[str, str]:
    """The environment of a process that has a role in Redis, or none."""
    url = environment.get("FLEET_BROKER_URL", "")
    if role is None or not url:
        return dict(environment)
    if url_of is None and os.environ.get(EVERYWHERE):
        return {**environment, "FLEET_BROKER_URL": _prepared(url, role, environment)}
    return {**environment, "FLEET_BROKER_URL": url_of(role) if url_of else url}


def _prepared(url: str, role: str, environment: Mapping[str, str]) -> str:
    """The address for a role, on a server that has its user from now on."""
    parts = urlsplit(url)
    if parts.scheme != "redis" or parts.username or parts.password:
        return url
    with redis.Redis.from_url(url) as root:
        create_users(root, PASSWORD, QUEUES, environment.get("FLEET_NAMESPACE", "fleet"))
    return parts._replace(netloc=f"{role}:{quote(PASSWORD)}@{parts.netloc}").geturl()
