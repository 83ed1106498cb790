"""Exported classifiers: their formats, runners, model card and drift reference."""
