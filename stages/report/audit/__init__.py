"""The page of the audit and what it counts."""
