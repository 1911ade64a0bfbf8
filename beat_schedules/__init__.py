"""The jobs that beat runs: what, how often, and the thin tasks behind them."""
