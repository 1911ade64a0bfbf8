"""How an application publishes: Fleet's routes and queues are merged with those of its user.

Celery replaces a setting as a whole. A user's `task_routes` or `task_queues` would replace Fleet's,
and Fleet's tasks would go to any queue. So the two are merged here, however the user set them:

    task_routes    Fleet's router places the agents' tasks and beat's jobs. All other tasks go by
                   the user's routes. Other options that a user's route gives an agent's task, such
                   as a priority, are kept.
    task_queues    the user's, and those of the fleet. A worker that is no agent consumes the user's
                   only, or the default queue if there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from celery.app import routes
from celery.app.amqp import AMQP
from kombu import Connection as KombuConnection
from kombu.utils.functional import maybe_evaluate
from kombu.utils.objects import cached_property

from fleet.broker.router import FleetRouter
from fleet.broker.signing import SigningProducer
from fleet.errors import InvalidConfig
from fleet.text import brief

PLACE_OPTIONS = ("queue", "exchange", "exchange_type", "routing_key")
"""The options of a route that decide where a task goes."""

RETRY_START, RETRY_STEP, RETRY_MAX = 1.0, 1.0, 3.0
"""Seconds between two attempts to connect: at first, added after each, and at most. Celery waits up
to 30 s, and gives up after a hundred attempts. Here workers reconnect within seconds of the
broker's return, however long it was away."""


class FleetConnection(KombuConnection):
    """A connection that retries every few seconds, unless its caller gives another interval.

    Its transports have the names that Kombu gives their brokers: monitors such as Flower choose by
    that name how to count queues.
    """

    resolve_aliases: ClassVar[dict[str, str]] = {
        **KombuConnection.resolve_aliases,
        "fleet": "redis",
        "fleets": "rediss",
        "fleet-sentinel": "sentinel",
    }

    def _ensure_connection(self, *args: Any, **options: Any) -> Any:
        if len(args) <= 2:
            options.setdefault("interval_start", RETRY_START)
            options.setdefault("interval_step", RETRY_STEP)
            options.setdefault("interval_max", RETRY_MAX)
        return super()._ensure_connection(*args, **options)


class CeleryRoutes(routes.Router):
    """Fleet's router first, then the routes of the user."""

    def lookup_route(
        self,
        name: str,
        args: Any = None,
        kwargs: Any = None,
        options: Any = None,
        task_type: Any = None,
    ) -> Any:
        """The route of a task; None if it goes to the default queue."""
        fleet_router, *others = self.routes
        options = {} if options is None else options
        of_user = self._route_of_user(others, name, args, kwargs, options, task_type)
        if not fleet_router.places(name):
            fleet_router(name, args, kwargs, options, task=task_type)
            return of_user
        # A route that is a string names a queue and nothing else.
        for option, value in of_user.items() if isinstance(of_user, Mapping) else ():
            # As in Celery, the caller's options come first.
            if option not in PLACE_OPTIONS and options.get(option) is None:
                options[option] = value
        return fleet_router(name, args, kwargs, options, task=task_type)

    def _route_of_user(self, others: list[Any], name: str, *more: Any) -> Any:
        found = (self.query_router(router, name, *more) for router in others)
        return next((route for route in found if route is not None), None)


class FleetAMQP(AMQP):
    """The `amqp` of an application that `make_app` has made."""

    Connection = FleetConnection

    def Router(self, queues: Any = None, create_missing: Any = None) -> CeleryRoutes:  # noqa: N802
        """A router over the current routes."""
        create = self.app.either("task_create_missing_queues", create_missing)
        return CeleryRoutes(self.routes, queues or self.queues, create, app=self.app)

    def _create_task_sender(self) -> Callable[..., Any]:
        send = super()._create_task_sender()
        signer, max_bytes = self.app.messages.signer, self.app.fleet.settings.config.message_bytes

        def send_task_message(producer: Any, *args: Any, **options: Any) -> Any:
            return send(SigningProducer(producer, signer, max_bytes), *args, **options)

        return send_task_message

    def flush_routes(self) -> None:
        """Read `task_routes` again. Raises `InvalidConfig`."""
        fleet_router = self.app.fleet_router
        of_user = self.app.conf.task_routes
        try:
            prepared = list(map(_route, routes.prepare(of_user)))
            places = list(_places(of_user, fleet_router))
        except Exception as error:
            # Celery imports the module that a route names, and reads its parts.
            raise InvalidConfig(
                f"task_routes: {brief(of_user)} are no routes ({type(error).__name__}: {error}); "
                "give a dictionary, a function, or a list of these"
            ) from error
        for place in places:
            raise InvalidConfig(
                f"task_routes: {place} is placed by Fleet; leave its queue, exchange and routing "
                "key out, and choose pools by request type, weight and [routing] in fleet.toml"
            )
        others = (each for each in prepared if not isinstance(each, FleetRouter))
        self._rtable = [fleet_router, *others]

    @cached_property
    def queues(self) -> Any:
        """The queues of the user and those of the fleet, by name."""
        ours, conf = self.app.fleet_queues, self.app.conf
        of_user = conf.task_queues
        if of_user is ours:
            # The user set none. The default queue is mostly one of the fleet's.
            of_user = [queue for queue in ours if queue.name == conf.task_default_queue]
        try:
            found = self.Queues(of_user)
        except (AttributeError, TypeError, ValueError) as error:
            raise InvalidConfig(
                f"task_queues: {brief(of_user)} are no queues ({error}); give a list of "
                "kombu.Queue, or a dictionary of their options by name"
            ) from error
        known = set(found)
        for queue in ours:
            if queue.name not in known:
                add = found.select_add if self.app.role.pool else found.add
                add(queue)
        return found


def _route(prepared: Any) -> Any:
    """A route, imported if it is a dotted name. Raises `TypeError` if it is no route."""
    route = maybe_evaluate(prepared)
    if not callable(route) and not hasattr(route, "route_for_task"):
        raise TypeError(f"a {type(route).__name__} is no route")
    return route


def _places(of_user: Any, fleet_router: FleetRouter) -> Iterator[str]:
    """The names of tasks that Fleet places and that a user's routes place too, by exact name."""
    several = of_user if isinstance(of_user, list | tuple) else [of_user]
    for each in several:
        if not isinstance(each, Mapping | list | tuple):
            continue
        pairs = each.items() if isinstance(each, Mapping) else each
        for name, route in pairs:
            if isinstance(name, str) and fleet_router.places(name) and _has_place(route):
                yield name


def _has_place(route: Any) -> bool:
    return not isinstance(route, Mapping) or any(route.get(option) for option in PLACE_OPTIONS)
