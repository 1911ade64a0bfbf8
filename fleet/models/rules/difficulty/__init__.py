"""How difficult a task is, told from its text: learned from what became of earlier ones."""
