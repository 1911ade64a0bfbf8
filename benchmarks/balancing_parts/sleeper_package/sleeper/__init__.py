"""The work of both sides: a wait, by an agent of Fleet's and by a plain Celery task."""
