"""The linear head, solved exactly."""
