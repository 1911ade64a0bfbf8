"""The user's application in a worker of its own, which is no agent of the fleet."""

from __future__ import annotations

from shop_tasks import add_tasks

from fleet.broker.app import make_app

app = make_app()
add_tasks(app)
