"""Exported classifiers: their forms, runners, model card and reference."""
