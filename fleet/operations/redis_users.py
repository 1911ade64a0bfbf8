"""The users of Redis, one for each role: their names, passwords and rules."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import InvalidConfig
from fleet.redis.acl import AclPlace, acl_rule, password_hash
from fleet.redis.roles import ROLES, Role
from fleet.settings.data_folder import WIDE, make_private

BYTES = 32
MIN_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class RedisUser:
    """A user of Redis. `rule` are the words of its ACL rule, `password_hash` is `#` and a SHA-256,
    `password_file` has the password."""

    name: str
    role: Role
    rule: tuple[str, ...]
    password_hash: str
    password_file: Path

    @property
    def words(self) -> list[str]:
        """The user's name, password and rights, as ACL rules have them."""
        return [self.name, *self.rule, "on", self.password_hash]


def redis_users(
    namespace: str, place: AclPlace, folder: Path, names: Iterable[str]
) -> list[RedisUser]:
    """The users of these roles. A password that is in no file of the folder is made and written
    there. Raises `InvalidConfig` for a file that others may read, and for a short password."""
    make_private(folder)
    users = []
    for name in names:
        role, file = ROLES[name], folder / name
        password = _password(file)
        rule = tuple(acl_rule(role, place))
        user = f"{namespace}-{name}"
        users.append(RedisUser(user, role, rule, password_hash(password), file))
    return users


def _password(file: Path) -> str:
    try:
        return _read(file)
    except FileNotFoundError:
        return _made(file)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"{file}: the password cannot be read ({error}); correct it") from None


def _read(file: Path) -> str:
    with file.open(encoding="utf-8") as opened:
        mode = os.fstat(opened.fileno()).st_mode
        if mode & WIDE:
            raise InvalidConfig(
                f"{file}: others may read the password (mode {mode & 0o777:o}); run: "
                f"chmod 600 {file}"
            )
        password = opened.read().strip()
    if len(password) < MIN_CHARACTERS or not password.isprintable():
        raise InvalidConfig(
            f"{file}: write a password of at least {MIN_CHARACTERS} printable characters in one "
            "line, or remove the file, and one is made"
        )
    return password


def _made(file: Path) -> str:
    """A new password. Another process that makes one at the same time wins."""
    password = secrets.token_urlsafe(BYTES)
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(password + "\n")
    except FileExistsError:
        return _read(file)
    return password
