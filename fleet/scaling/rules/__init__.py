"""The pure part of scaling: what is known of a pool, the policies, and whom to drain."""
