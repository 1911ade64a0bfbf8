"""The audit: who changed or read what, in a chain of hashes that shows every tampering."""
