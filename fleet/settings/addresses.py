"""The addresses that Redis may have, taken apart.

    redis://USER:PASSWORD@HOST:PORT/DATABASE
    rediss://HOST:PORT/DATABASE?ssl_ca_certs=FILE&ssl_certfile=FILE&ssl_keyfile=FILE
    sentinel://USER:PASSWORD@HOST:26379,HOST:26379/DATABASE?master=NAME&sentinel_password=...
    sentinels://...     the same, with TLS to Redis and to the Sentinels

USER and PASSWORD are those of Redis. What begins with `ssl_` is named as in redis-py.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from ssl import CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from fleet.errors import InvalidConfig

REDIS, SENTINEL = ("redis", "rediss"), ("sentinel", "sentinels")
REDIS_SCHEMES = (*REDIS, *SENTINEL)
WITH_TLS = ("rediss", "sentinels")
RABBITMQ_SCHEMES = ("amqp", "amqps", "pyamqp")
DEFAULT_BROKER_URL = "redis://127.0.0.1:6379/0"
REDIS_PORT, SENTINEL_PORT = 6379, 26379
FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
OTHERS, GROUP_AND_OTHERS = 0o007, 0o077
"""Bits of a file's mode."""
TLS = (*FILES, "ssl_ca_path", "ssl_password", "ssl_cert_reqs", "ssl_check_hostname")
OF_SENTINEL = ("master", "sentinel_username", "sentinel_password")
CHECKS = {"none": CERT_NONE, "optional": CERT_OPTIONAL, "required": CERT_REQUIRED}
ENCODE = "write what is special in a user or password as %XX, such as %2F for /"
STARS = "**********"
SECRET_OPTION = re.compile(r"([^=&]*(?:user|password|token|secret)[^=&]*=)[^&]*", re.IGNORECASE)
CHECK = "check ssl_ca_certs, ssl_certfile and ssl_keyfile in FLEET_BROKER_URL"
FALSE = ("0", "f", "false", "n", "no")

Host = tuple[str, int]


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """`master` is '' where `hosts` is the one Redis itself and no Sentinels. `tls` has redis-py's
    names, and is None without TLS."""

    hosts: tuple[Host, ...]
    database: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    master: str = ""
    tls: Mapping[str, Any] | None = field(default=None, repr=False)
    sentinel_username: str = ""
    sentinel_password: str = field(default="", repr=False)

    @property
    def place(self) -> str:
        """Where it is, as people may see it."""
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"master {self.master} of the Sentinels {hosts}" if self.master else hosts

    def url(self, scheme: str, host: Host) -> str:
        """The same place in another scheme, at one of its hosts; what TLS needs is left out."""
        name, port = host
        user = quote(self.username, safe="")
        login = f"{user}:{quote(self.password, safe='')}@" if user or self.password else ""
        shown = f"[{name}]" if ":" in name else name
        return f"{scheme}://{login}{shown}:{port}/{self.database}"


def redis_address(url: str, variable: str = "FLEET_BROKER_URL") -> RedisAddress:
    """Take an address apart. Raises `InvalidConfig`, which repeats no password."""
    try:
        return taken_apart(url)
    except ValueError as error:
        raise InvalidConfig(f"{variable}: {error}") from None


def taken_apart(url: str) -> RedisAddress:
    """The same. Raises `ValueError`, which repeats nothing that may be part of a password."""
    _check_scheme(url)
    parts = split(url)
    given = dict(parse_qsl(parts.query))
    sentinel = parts.scheme in SENTINEL
    login, _, where = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    if sentinel:
        _check_sentinel(given)
    return RedisAddress(
        hosts=_hosts(where, SENTINEL_PORT if sentinel else REDIS_PORT),
        database=_database(parts.path, given),
        username=unquote(username),
        password=unquote(password),
        master=given.get("master", "") if sentinel else "",
        tls=tls_of(url),
        sentinel_username=given.get("sentinel_username", ""),
        sentinel_password=given.get("sentinel_password", ""),
    )


def tls_of(url: str) -> dict[str, Any] | None:
    """What an address says of TLS, in redis-py's names; None where its scheme has none."""
    parts = split(url)
    return _tls(dict(parse_qsl(parts.query))) if parts.scheme in WITH_TLS else None


def split(url: str) -> SplitResult:
    """The parts of an address. Raises `ValueError`, which repeats none of them."""
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError(f"is no address; {ENCODE}, and brackets around an IPv6 host") from None


def masked(url: str) -> str:
    """An address with stars for the users and passwords that it may hold.

    Of one that has an @ elsewhere than before its host only the scheme is shown: what stands
    before that @ may be a password.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return STARS
    if "@" in "".join(parts[2:]):
        return f"{parts.scheme}://{STARS}"
    _, at, host = parts.netloc.rpartition("@")
    place = f"{STARS}@{host}" if at else host
    query = SECRET_OPTION.sub(lambda found: found[1] + STARS, parts.query)
    return parts._replace(netloc=place, query=query).geturl()


def _check_scheme(url: str) -> None:
    scheme, separator, _ = url.partition("://")
    if separator and scheme in REDIS_SCHEMES:
        return
    if separator and scheme.removeprefix("fleet-") in RABBITMQ_SCHEMES:
        raise ValueError(
            "is the address of a RabbitMQ, and Redis alone carries the messages of a fleet; use "
            f"{DEFAULT_BROKER_URL}, and let a Celery application on RabbitMQ submit by Fleet.submit"
        )
    known = ", ".join(f"{each}://" for each in REDIS_SCHEMES)
    raise ValueError(f"must start with one of {known}, such as {DEFAULT_BROKER_URL}")


def _check_sentinel(given: Mapping[str, str]) -> None:
    if not given.get("master"):
        raise ValueError("names no master; use sentinel://HOST:26379,HOST:26379/0?master=NAME")
    unknown = set(given) - {*TLS, *OF_SENTINEL}
    if unknown:
        known = ", ".join((*OF_SENTINEL, *TLS))
        # With an @ among them they may be a password that was cut in two.
        names = ", ".join(sorted(unknown))
        told = "option of that name" if "@" in names else names
        raise ValueError(f"knows no {told}; known are {known}")


def _hosts(where: str, usual_port: int) -> tuple[Host, ...]:
    found = []
    for each in where.split(","):
        try:
            parts = split(f"//{each}")
            found.append((parts.hostname or "localhost", parts.port or usual_port))
        except ValueError:
            raise ValueError(f"a port is no number; {ENCODE}") from None
    return tuple(found)


def _database(path: str, given: Mapping[str, str]) -> int:
    number = given.get("db") or path.strip("/") or "0"
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        raise ValueError(f"what follows the first / is no database number; use .../0. {ENCODE}")
    return int(number)


def _tls(given: Mapping[str, str]) -> dict[str, Any]:
    """As the address says it, and with the server's certificate checked unless it says not."""
    found: dict[str, Any] = {name: given[name] for name in TLS if name in given}
    checks = found.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if checks not in CHECKS:
        raise ValueError(f"ssl_cert_reqs: is not known; use one of {', '.join(CHECKS)}")
    found["ssl_cert_reqs"] = CHECKS[checks]
    if "ssl_check_hostname" in found:
        found["ssl_check_hostname"] = found["ssl_check_hostname"].lower() not in FALSE
    elif checks == "none":
        found["ssl_check_hostname"] = False
    return found


def check_files(tls: Mapping[str, Any] | None) -> None:
    """Raise `InvalidConfig` for a certificate or key that is not there, and for a key that others
    may read."""
    for name in FILES:
        path = (tls or {}).get(name)
        if path is not None and not Path(path).is_file():
            raise InvalidConfig(f"FLEET_BROKER_URL: {name}: there is no file {path}; correct it")
    key = (tls or {}).get("ssl_keyfile")
    if key is not None:
        _check_key(Path(key))


def _check_key(path: Path) -> None:
    """A key of root's may be read by a group, since Kubernetes mounts Secrets in this way."""
    found = path.stat()
    too_wide = found.st_mode & (OTHERS if found.st_uid == 0 else GROUP_AND_OTHERS)
    if too_wide:
        raise InvalidConfig(
            f"FLEET_BROKER_URL: ssl_keyfile: others may read {path} (mode "
            f"{found.st_mode & 0o777:o}); run: chmod 600 {path}, or mount its Secret with "
            "defaultMode: 0440"
        )


def tls_error(error: BaseException | None) -> str:
    """What TLS had against the other side; empty where it had nothing."""
    while error is not None:
        if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return ""
        if isinstance(error, ssl.SSLError):
            return str(error.reason or error)
        error = error.__cause__ or error.__context__
    return ""


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
