"""The difficulty of a task: estimated from its text, learned from outcomes of earlier tasks."""
