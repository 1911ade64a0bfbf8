"""What Fleet does: gather facts, ask the core, write. No Celery here."""
