"""The Celery message of a task, protocol 2, as JSON text.

It is written out by hand because a submission takes some 200 us in all, and Celery's own
way to the same text takes as long. Any Celery worker reads it. The payload is JSON already
and is not parsed again; a body of plain text needs no base64.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable

from fleet.services.requests import Checked

TASK_PREFIX = "agents."
EMBEDDED = '{"callbacks": null, "errbacks": null, "chain": null, "chord": null}'


def task_name(agent_type: str) -> str:
    """The Celery name of an agent type's task."""
    return TASK_PREFIX + agent_type


def message_encoder() -> Callable[[str, Checked], str]:
    """A function from a task's id and a checked submission to its message."""
    origin = f"{os.getpid()}@{socket.gethostname()}"

    def encode(task_id: str, checked: Checked) -> str:
        body = (
            f'[[{checked.payload}], {{"request_type": "{checked.request_type}", '
            f'"tenant": "{checked.tenant}", "complexity": {checked.complexity!r}}}, {EMBEDDED}]'
        )
        return _envelope(task_id, task_name(checked.agent_type), checked, origin, body)

    return encode


def _envelope(task_id: str, name: str, checked: Checked, origin: str, body: str) -> str:
    # What Flower and the logs show of the arguments: never the payload, it may hold secrets.
    shown = f"{checked.request_type} for {checked.tenant}"
    return (
        f'{{"body": {json.dumps(body)}, "content-encoding": "utf-8", '
        f'"content-type": "application/json", "headers": {{"lang": "py", "task": "{name}", '
        f'"id": "{task_id}", "shadow": null, "eta": null, "expires": null, "group": null, '
        f'"group_index": null, "retries": 0, "timelimit": [null, null], "root_id": "{task_id}", '
        f'"parent_id": null, "argsrepr": "{shown}", "kwargsrepr": "", "origin": "{origin}", '
        f'"ignore_result": true, "replaced_task_nesting": 0, "stamped_headers": null, '
        f'"stamps": {{}}}}, "properties": {{"correlation_id": "{task_id}", "reply_to": "", '
        f'"delivery_mode": 2, "delivery_info": {{"exchange": "", "routing_key": ""}}, '
        f'"priority": 0, "delivery_tag": "{task_id}"}}}}'
    )
