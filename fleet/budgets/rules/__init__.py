"""Pure decisions about budgets."""
