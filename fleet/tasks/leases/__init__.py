"""The right to run a task: claimed, renewed, handed back, with a slot of the process."""
