"""What `scaling_simulation.py` is made of: loads, and the policies of others."""
