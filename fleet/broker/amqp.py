"""How an application publishes: Fleet's routes and queues beside those of its user.

Celery replaces a setting as a whole. A user's `task_routes` or `task_queues` would leave Fleet's
out, and its tasks would go anywhere. So they are laid together here, however they were set:

    task_routes    Fleet's router places the agents' tasks and beat's jobs. All other tasks go by
                   the user's routes. What a user's route gives an agents' task beside its place,
                   such as a priority, is kept.
    task_queues    the user's, and those of the fleet. A worker that is no agent consumes the user's
                   alone, or the default queue where there are none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from celery.app import routes
from celery.app.amqp import AMQP
from kombu import Connection as KombuConnection
from kombu.utils.functional import maybe_evaluate
from kombu.utils.objects import cached_property

from fleet.broker.router import FleetRouter
from fleet.errors import InvalidConfig
from fleet.text import brief

PLACE = ("queue", "exchange", "exchange_type", "routing_key")
"""The options of a route that say where a task goes."""


# Celery waits up to 30 s between two attempts, and gives up after a hundred of them. Workers are
# back at their broker within seconds, however long it was away.
FIRST_SECONDS, MORE_SECONDS, MAX_SECONDS = 1.0, 1.0, 3.0
"""Between two attempts to connect: at first, more after each, and at most."""


class SteadyConnection(KombuConnection):
    """A connection that asks again every few seconds, unless it is told how often."""

    def _ensure_connection(self, *args: Any, **options: Any) -> Any:
        if len(args) <= 2:
            options.setdefault("interval_start", FIRST_SECONDS)
            options.setdefault("interval_step", MORE_SECONDS)
            options.setdefault("interval_max", MAX_SECONDS)
        return super()._ensure_connection(*args, **options)


class SteadyAMQP(AMQP):
    """What an application makes its connections with."""

    Connection = SteadyConnection


class Connection(SteadyConnection):
    """A connection that names its broker as Kombu names it: monitors such as Flower choose by that
    name how to count its queues."""

    resolve_aliases: ClassVar[dict[str, str]] = {
        **SteadyConnection.resolve_aliases,
        "fleet": "redis",
        "fleets": "rediss",
        "fleet-sentinel": "sentinel",
    }


class Routes(routes.Router):
    """The routes of the user behind Fleet's router, which is the first."""

    def lookup_route(
        self,
        name: str,
        args: Any = None,
        kwargs: Any = None,
        options: Any = None,
        task_type: Any = None,
    ) -> Any:
        """The route of a task, or None where the default queue has it."""
        fleets, *others = self.routes
        options = {} if options is None else options
        asked = self._asked(others, name, args, kwargs, options, task_type)
        if not fleets.places(name):
            fleets(name, args, kwargs, options, task=task_type)
            return asked
        # A route that is text names a queue, and nothing beside it.
        for option, value in asked.items() if isinstance(asked, Mapping) else ():
            # As in Celery, what the caller says comes first.
            if option not in PLACE and options.get(option) is None:
                options[option] = value
        return fleets(name, args, kwargs, options, task=task_type)

    def _asked(self, others: list[Any], name: str, *more: Any) -> Any:
        found = (self.query_router(router, name, *more) for router in others)
        return next((route for route in found if route is not None), None)


class FleetAMQP(SteadyAMQP):
    """The `amqp` of an application that `make_app` has made."""

    Connection = Connection

    def Router(self, queues: Any = None, create_missing: Any = None) -> Routes:  # noqa: N802
        """The router of the routes as they are set now."""
        create = self.app.either("task_create_missing_queues", create_missing)
        return Routes(self.routes, queues or self.queues, create, app=self.app)

    def flush_routes(self) -> None:
        """Read `task_routes` again. Raises `InvalidConfig`."""
        fleets = self.app.fleet_router
        of_user = self.app.conf.task_routes
        try:
            prepared = list(map(_route, routes.prepare(of_user)))
            places = list(_places(of_user, fleets))
        except Exception as error:
            # Celery loads what a route names, and takes it apart.
            raise InvalidConfig(
                f"task_routes: {brief(of_user)} are no routes ({type(error).__name__}: {error}); "
                "give a dictionary, a function, or a list of these"
            ) from error
        for place in places:
            raise InvalidConfig(
                f"task_routes: {place} is placed by Fleet; leave its queue, exchange and routing "
                "key out, and choose pools by request type, weight and [routing] in fleet.toml"
            )
        self._rtable = [fleets, *(each for each in prepared if not isinstance(each, FleetRouter))]

    @cached_property
    def queues(self) -> Any:
        """The queues of the user and those of the fleet, by name."""
        ours, conf = self.app.fleet_queues, self.app.conf
        of_user = conf.task_queues
        if of_user is ours:
            # Nothing was set. The default queue is mostly one of the fleet's.
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
    """A route, loaded where it is named by its module. Raises `TypeError` where it is none."""
    route = maybe_evaluate(prepared)
    if not callable(route) and not hasattr(route, "route_for_task"):
        raise TypeError(f"a {type(route).__name__} is no route")
    return route


def _places(of_user: Any, fleets: FleetRouter) -> Iterator[str]:
    """The names of tasks that Fleet places, and that a user's routes place by their very names."""
    several = of_user if isinstance(of_user, list | tuple) else [of_user]
    for each in several:
        if not isinstance(each, Mapping | list | tuple):
            continue
        pairs = each.items() if isinstance(each, Mapping) else each
        for name, route in pairs:
            if isinstance(name, str) and fleets.places(name) and _says_where(route):
                yield name


def _says_where(route: Any) -> bool:
    return not isinstance(route, Mapping) or any(route.get(option) for option in PLACE)
