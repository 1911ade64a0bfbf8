"""Redis: one client, key names, the Lua scripts."""
