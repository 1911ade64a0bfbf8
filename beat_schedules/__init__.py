"""The jobs that beat runs, and their schedule."""
