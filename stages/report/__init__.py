"""The reports of the audit and of the comparison."""
