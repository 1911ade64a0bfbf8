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
    assert masked("amqps://u:pw@host//?ssl_ca_certs=ca&ssl_password=x").count("**********") == 2


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"BROKER": "amqp://u:hunter2@host"}, "STATE_URL: RabbitMQ carries the messages alone"),
        ({"BROKER": "amqp://host", "STATE": "amqp://host"}, "FLEET_STATE_URL: must start with"),
        ({"BROKER": "redis://a", "STATE": "redis://b"}, "set FLEET_BROKER_URL alone"),
        ({"STATE": "redis://b"}, "set FLEET_BROKER_URL alone"),
    ],
)
def test_a_broker_and_a_state_that_do_not_fit_are_an_error(
    clean_environment: pytest.MonkeyPatch, variables: dict[str, str], says: str
) -> None:
    for name, value in variables.items():
        clean_environment.setenv(f"FLEET_{name}_URL", value)
    with pytest.raises(InvalidConfig, match=says) as told:
        load_settings()
    assert "hunter2" not in str(told.value)
