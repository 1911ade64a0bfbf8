"""What keeps a broken connection from hanging a publisher or ending a worker is set."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from fleet import Fleet
from fleet.broker.app import make_app
from fleet.errors import Unavailable
from fleet.settings import Settings, load_settings

AGENT = "agents.code_generator"


def test_every_wait_for_the_broker_has_an_end(settings_of: Callable[[str], Settings]) -> None:
    app = make_app(settings_of(""))
    options = app.conf.broker_transport_options
    with app.connection_for_write() as connection:
        pool = connection.default_channel.client.connection_pool
        arguments: dict[str, Any] = pool.connection_kwargs
    for found in (options, arguments):
        assert found["socket_timeout"] == found["socket_connect_timeout"] == 5.0
        assert found["socket_keepalive"] is True
        assert found["retry_on_timeout"] is False
        assert found["health_check_interval"] == 30
    backend = app.backend.connparams
    assert backend["socket_timeout"] == backend["socket_connect_timeout"] == 5.0
    assert backend["socket_keepalive"] is True
    assert backend["retry_on_timeout"] is True
    assert backend["health_check_interval"] == 30


def test_a_worker_outlives_a_broken_connection(settings_of: Callable[[str], Settings]) -> None:
    conf = make_app(settings_of("")).conf
    assert conf.broker_channel_error_retry is True
    assert conf.broker_connection_retry is True
    assert conf.broker_connection_retry_on_startup is True


@pytest.fixture
def dead_peer(clean_environment: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        port = server.getsockname()[1]
        clean_environment.setenv("FLEET_BROKER_URL", f"redis://127.0.0.1:{port}/0")
        clean_environment.setenv("FLEET_SOCKET_TIMEOUT", "0.3")
        yield load_settings()


@pytest.mark.parametrize(
    ("publish", "raised"),
    [
        (lambda app: app.send_task(AGENT, args=[{"instruction": "add"}]), Unavailable),
        (lambda app: app.send_task("shop.bill", ignore_result=True), OperationalError),
        (lambda app: app.send_task("shop.bill"), OperationalError),
    ],
)
def test_a_publish_to_a_dead_peer_is_a_typed_error_in_time(
    dead_peer: Settings, publish: Callable[[Celery], Any], raised: type[Exception]
) -> None:
    with make_app(dead_peer) as app:
        began = time.monotonic()
        with pytest.raises(raised):
            publish(app)
        assert time.monotonic() - began < 15


def test_a_submission_to_a_dead_peer_is_a_typed_error_in_time(dead_peer: Settings) -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable):
        Fleet(dead_peer).submit("code_generation", {"instruction": "add"})
    assert time.monotonic() - began < 10
