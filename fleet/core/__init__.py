"""Pure decisions: which pool, which model. No clock, no dice, no sockets."""
