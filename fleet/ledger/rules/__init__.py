"""Pure decisions about the ledger."""
