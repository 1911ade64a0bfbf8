"""Flower's logins: every route that Flower has, without a login, for the viewer, and for the user
who may change things."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
from flower.options import options
from flower.urls import handlers
from flower.urls import settings as web_settings
from hypothesis import given, strategies
from pydantic import SecretStr
from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import RequestHandler

from fleet.broker.app import make_app
from fleet.errors import InvalidConfig
from fleet.settings import Settings
from fleet.web.flower import READING, READING_POSTS, FleetFlower, Logins, logins
from fleet.web.probe import answers

OPERATOR, VIEWER = "fleet:open sesame", "viewer:look only"
READS = {
    *("/", "/workers", "/worker/(.+)", "/task/(.+)", "/tasks", "/tasks/datatable", "/broker"),
    *("/api/workers", "/api/tasks", "/api/task/types", "/api/queues/length"),
    *("/api/task/info/(.*)", "/api/task/result/(.+)", "/metrics", "/healthcheck", "/static/(.*)"),
    *("/login/?", "/logout", ".*"),
}
WRITES = {
    *(f"/api/worker/{name}/(.+)" for name in ("shutdown", "pool/restart", "pool/grow")),
    *(f"/api/worker/{name}/(.+)" for name in ("pool/shrink", "pool/autoscale")),
    *(f"/api/worker/queue/{name}/(.+)" for name in ("add-consumer", "cancel-consumer")),
    *(f"/api/task/{name}/(.+)" for name in ("apply", "async-apply", "send-task", "abort")),
    *(f"/api/task/{name}/(.+)" for name in ("timeout", "rate-limit", "revoke")),
}
"""Each route of Flower, and whether it changes something. A new one has to be looked at."""


def pattern_and_handler(route: Any) -> tuple[str, type[RequestHandler]]:
    if isinstance(route, tuple):
        return route[0], route[1]
    return route.regex.pattern.removesuffix("$"), route.handler_class


ROUTES = dict(pattern_and_handler(each) for each in handlers)


def methods_of(handler: type[RequestHandler]) -> list[str]:
    """The methods that a handler implements."""
    names = RequestHandler.SUPPORTED_METHODS
    return [
        name
        for name in names
        if getattr(handler, name.lower()) is not getattr(RequestHandler, name.lower())
    ]


def test_each_route_of_this_flower_is_known() -> None:
    assert set(ROUTES) == READS | WRITES


def test_a_route_that_reads_has_no_method_that_writes() -> None:
    """Two have a POST: the list of the tasks, and the page that says "not found"."""
    posts = {route for route in READS if not set(methods_of(ROUTES[route])) <= set(READING)}
    assert posts - {"/login/?"} == {"/tasks/datatable", ".*"}
    assert [ROUTES["/tasks/datatable"]] == list(READING_POSTS)


def test_a_route_that_writes_has_no_method_that_a_viewer_may_use() -> None:
    for route in WRITES:
        assert set(methods_of(ROUTES[route])) - {"OPTIONS"} == {"POST"}, route


Ask = Callable[..., Awaitable[HTTPResponse]]


class Served:
    """Flower in this process, without its events and without a worker."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def run(self, use: Callable[[Ask], Awaitable[Any]]) -> Any:
        async def serve() -> Any:
            options.basic_auth = [OPERATOR, VIEWER]
            with make_app(self.settings, set_as_current=False) as app:
                flower = FleetFlower(
                    capp=app, logins=Logins(OPERATOR, VIEWER), options=options, **web_settings
                )
                flower.fleet_broker_url = self.settings.broker_url
                sockets = bind_sockets(0, address="127.0.0.1")
                server = HTTPServer(flower)
                server.add_sockets(sockets)
                port = sockets[0].getsockname()[1]

                async def ask(path: str, login: str = "", method: str = "GET", **more: Any) -> Any:
                    headers = dict(more)
                    if login:
                        headers["Authorization"] = "Basic " + b64encode(login.encode()).decode()
                    request = HTTPRequest(
                        f"http://127.0.0.1:{port}{path}",
                        method,
                        {name.replace("_", "-"): value for name, value in headers.items()},
                        body=b"" if method in ("POST", "PUT", "PATCH") else None,
                        allow_nonstandard_methods=True,
                        follow_redirects=False,
                        request_timeout=20,
                    )
                    return await AsyncHTTPClient().fetch(request, raise_error=False)

                try:
                    return await use(ask)
                finally:
                    server.stop()
                    await server.close_all_connections()
                    flower.executor.shutdown(wait=False)

        return asyncio.run(serve())


@pytest.fixture
def flower(client: redis.Redis, settings_of: Callable[[str], Settings]) -> Iterator[Served]:
    before = options.basic_auth
    yield Served(settings_of(""))
    options.basic_auth = before


def path_of(route: str) -> str:
    """An address that the route serves."""
    if route == ".*":
        return "/nothing-here"
    return route.replace("(.+)", "x").replace("(.*)", "x").replace("/?", "")


def test_no_route_is_open_without_a_login(flower: Served) -> None:
    wrong = ("", "fleet:wrong", "viewer:open sesame", "fleet:", ":", "fleet:open sesame ")

    async def use(ask: Ask) -> None:
        for route, handler in ROUTES.items():
            for method in {*methods_of(handler), "GET", "POST", "PUT"}:
                for login in wrong if route == "/metrics" else wrong[:2]:
                    answer = await ask(path_of(route), login, method)
                    assert (route, method, answer.code) == (route, method, 401)
                    assert answer.headers["WWW-Authenticate"].startswith("Basic")
        for header in ("Bearer fleet_x", "Basic", "Basic !!", "basic " + "eA==", "Basic \xff"):
            answer = await ask("/metrics", Authorization=header)
            assert answer.code == 401

    flower.run(use)


def test_the_viewer_reads_every_page_and_changes_nothing(flower: Served) -> None:
    async def use(ask: Ask) -> None:
        for route in WRITES:
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                answer = await ask(path_of(route), VIEWER, method)
                assert (route, method, answer.code) == (route, method, 403)
                assert b"change nothing" in answer.body
        for path in ("/", "/workers", "/tasks", "/broker", "/metrics", "/healthcheck"):
            answer = await ask(path, VIEWER)
            assert (path, answer.code) == (path, 200)
        columns = "draw=1&start=0&length=5&order[0][column]=0&columns[0][data]=name"
        listed = await ask(f"/tasks/datatable?{columns}", VIEWER, "POST")
        assert (listed.code, b"recordsTotal" in listed.body) == (200, True)
        assert (await ask("/api/workers", VIEWER)).code == 200
        assert (await ask("/api/queues/length", VIEWER)).code == 200
        assert (await ask("/worker/nobody", VIEWER)).code == 404

    flower.run(use)


def test_the_other_user_reaches_what_changes_things(flower: Served) -> None:
    async def use(ask: Ask) -> None:
        for route in WRITES - {"/api/task/revoke/(.+)", "/api/task/abort/(.+)"}:
            answer = await ask(path_of(route), OPERATOR, "POST")
            if "send-task" not in route:
                # It gets to the handler, which knows no worker and no task of this name.
                assert (route, answer.code) in {(route, 404), (route, 400)}
        assert (await ask("/healthcheck", OPERATOR)).body == b"OK"

    flower.run(use)


def test_a_request_that_another_site_has_caused_is_refused(flower: Served) -> None:
    async def use(ask: Ask) -> None:
        path = "/api/task/revoke/x"
        for header in ({"Sec_Fetch_Site": "cross-site"}, {"Origin": "https://other.example"}):
            answer = await ask(path, OPERATOR, "POST", **header)
            assert answer.code == 403

    flower.run(use)


def test_only_the_viewers_pages_are_without_buttons(flower: Served) -> None:
    async def use(ask: Ask) -> None:
        app = FleetFlower(
            capp=make_app(flower.settings, set_as_current=False),
            logins=Logins(OPERATOR, VIEWER),
            options=options,
            **web_settings,
        )
        assert app._for_viewers.options.read_only
        assert not app.options.read_only
        assert app._for_viewers.events is app.events
        assert app._for_viewers.options.basic_auth == app.options.basic_auth
        app.executor.shutdown(wait=False)

    flower.run(use)


def test_a_probe_knows_a_flower_that_asks_for_the_login(flower: Served) -> None:
    async def use(ask: Ask) -> bool:
        port = int((await ask("/")).effective_url.split(":")[2].split("/")[0])
        return await asyncio.to_thread(answers, {"FLEET_FLOWER_PORT": str(port)})

    assert flower.run(use)
    for nobody in ({"FLEET_FLOWER_PORT": "1"}, {"FLEET_OPS_PORT": "1"}, {}):
        assert not answers(nobody)


@given(strategies.text(max_size=40), strategies.sampled_from(["", "Basic ", "Bearer ", "basic "]))
def test_whatever_a_header_holds_it_is_no_login(text: str, scheme: str) -> None:
    assert Logins(OPERATOR).role(scheme + text) is None
    assert Logins(OPERATOR, VIEWER).role(scheme + b64encode(text.encode("utf-8")).decode()) is None


def with_passwords(settings: Settings, **changes: Any) -> Settings:
    environment = settings.environment.model_copy(update=changes)
    return replace(settings, environment=environment)


def test_the_logins_come_from_the_environment(
    settings_of: Callable[[str], Settings],
) -> None:
    settings = with_passwords(settings_of(""), flower_password=SecretStr("open"))
    assert logins(settings) == Logins("fleet:open")
    both = with_passwords(settings, flower_viewer_password=SecretStr("look"))
    assert logins(both) == Logins("fleet:open", "viewer:look")
    for changes, sentence in (
        ({"flower_viewer_password": SecretStr("")}, "FLEET_FLOWER_VIEWER_PASSWORD"),
        ({"flower_user": "viewer", "flower_viewer_password": SecretStr("x")}, "name another"),
        ({"flower_password": SecretStr("ö")}, "FLEET_FLOWER_PASSWORD"),
    ):
        with pytest.raises(InvalidConfig, match=sentence):
            logins(with_passwords(both, **changes))
