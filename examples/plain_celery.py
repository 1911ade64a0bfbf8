"""An application that uses only Celery's API. Fleet still routes its tasks.

    fleet up                            # in one terminal
    python examples/plain_celery.py     # in another, in the same folder

`make_app()` is a Celery application with Fleet's transport. Publishing takes the slot and writes the
record in one atomic step. If your application must keep its own transport, give it Fleet's routes
instead; the worker then writes the record:

    app.conf.task_routes = fleet.broker.app.task_routes()
"""

from __future__ import annotations

from fleet.broker.app import make_app

SOURCE = """
import pickle

def load(cookie):
    return pickle.loads(cookie)
"""


def main() -> None:
    app = make_app()
    sent = app.send_task(
        "agents.security_scanner",
        args=[{"source": SOURCE, "filename": "session.py", "triage": False}],
        kwargs={"tenant": "acme", "complexity": 0.4},
    )
    result = sent.get(timeout=120)
    print(f"task {sent.id}: {result['counts']}")
    for found in result["findings"]:
        print(f"{found['file']}:{found['line']} {found['rule']} {found['title']}")
    print(f"why it got its pool and model: fleet explain {sent.id}")


if __name__ == "__main__":
    main()
