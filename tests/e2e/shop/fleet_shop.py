"""The user's application as agents of a fleet: Fleet's own, with his tasks added."""

from __future__ import annotations

from shop_tasks import add_tasks

from workers.app import app

add_tasks(app)
