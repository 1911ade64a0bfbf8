"""Addresses of brokers: what they say, and what they never repeat."""

from __future__ import annotations

from ssl import CERT_NONE, CERT_REQUIRED

import pytest

from fleet.errors import InvalidConfig
from fleet.settings import load_settings
from fleet.settings.addresses import masked, redis_address

SENTINELS = (
    "sentinels://fleet:p%2Fw@a:1,b,[::1]:3/2?master=main&sentinel_username=s&sentinel_password=hush"
)


def test_an_address_of_sentinels_names_them_all_and_the_master() -> None:
    found = redis_address(SENTINELS)
    assert found.hosts == (("a", 1), ("b", 26379), ("::1", 3))
    assert (found.database, found.username, found.password) == (2, "fleet", "p/w")
    assert (found.sentinel_username, found.sentinel_password) == ("s", "hush")
    assert found.tls == {"ssl_cert_reqs": CERT_REQUIRED}
    assert found.url("x", found.hosts[2]) == "x://fleet:p%2Fw@[::1]:3/2"


def test_the_options_of_tls_are_understood() -> None:
    plain = redis_address("redis://host?ssl_ca_certs=ca.pem")
    assert plain.tls is None
    open_to_all = redis_address("rediss://host?ssl_cert_reqs=none&ssl_ca_certs=ca.pem")
    assert open_to_all.tls == {
        "ssl_ca_certs": "ca.pem",
        "ssl_cert_reqs": CERT_NONE,
        "ssl_check_hostname": False,
    }


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sentinel://host/0", "names no master"),
        ("sentinel://host/0?master=m&masterr=x", "knows no masterr"),
        ("rediss://host?ssl_cert_reqs=maybe", "use one of none, optional, required"),
        ("redis://user:hun/ter2@host/0", "a port is no number; write what is special"),
        ("redis://host/hunter2", "is no database number"),
    ],
)
def test_a_mistake_is_named_and_no_password_repeated(url: str, says: str) -> None:
    with pytest.raises(InvalidConfig, match=says) as told:
        redis_address(url)
    assert "ter2" not in str(told.value)


def test_no_secret_is_in_what_people_see() -> None:
    assert masked(SENTINELS) == (
        "sentinels://**********@a:1,b,[::1]:3/2?master=main&sentinel_username=**********"
        "&sentinel_password=**********"
    )
    assert "hush" not in repr(redis_address(SENTINELS))
    assert "p/w" not in repr(redis_address(SENTINELS))
    assert masked("rediss://u:pw@host/0?ssl_ca_certs=ca&ssl_password=x").count("**********") == 2


@pytest.mark.parametrize("scheme", ["amqp", "amqps", "pyamqp", "fleet-amqp", "fleet-amqps"])
def test_a_rabbitmq_is_refused_with_what_to_do(
    clean_environment: pytest.MonkeyPatch, scheme: str
) -> None:
    clean_environment.setenv("FLEET_BROKER_URL", f"{scheme}://user:hunter2@host:5672//")
    with pytest.raises(InvalidConfig) as told:
        load_settings()
    assert str(told.value) == (
        "FLEET_BROKER_URL: is the address of a RabbitMQ, and Redis alone carries the messages of a "
        "fleet; use redis://127.0.0.1:6379/0, and let a Celery application on RabbitMQ submit by "
        "Fleet.submit"
    )


def test_any_other_scheme_is_refused_with_those_there_are(
    clean_environment: pytest.MonkeyPatch,
) -> None:
    clean_environment.setenv("FLEET_BROKER_URL", "sqs://user:hunter2@host")
    with pytest.raises(InvalidConfig, match="must start with one of redis://, rediss://") as told:
        load_settings()
    assert "hunter2" not in str(told.value)
