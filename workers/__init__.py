"""The agents that come with Fleet, each in its own package with a SPEC."""
