"""The typed sections of params.yaml, a module each."""
