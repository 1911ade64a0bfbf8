"""Celery and Kombu, and all that Fleet hangs into them."""
