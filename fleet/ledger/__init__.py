"""The ledger: entries, roll-ups, archive, verification, reconciliation, spend report."""
