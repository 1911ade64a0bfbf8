"""Every outside thing but Redis: model providers, prices, sandboxes, local servers."""
