"""Pure decisions about pools: ranking, scores, health."""
