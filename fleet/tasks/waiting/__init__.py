"""Tasks that wait: in a queue, for their time, for room in a budget, for their next try."""
