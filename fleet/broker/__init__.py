"""The Celery application, the kombu transport, the router, messages."""
