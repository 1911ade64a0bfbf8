"""The agents that come with Fleet, each in a package of its own that announces a SPEC."""
