"""The work of every side: nothing, or a wait, and a mark that it was done."""
