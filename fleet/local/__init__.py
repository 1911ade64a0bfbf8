"""One machine: supervisor, embedded Valkey, local model, run file."""
