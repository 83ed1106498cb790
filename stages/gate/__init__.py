"""Whether a comparison may take the place of an earlier one: `python -m stages.gate`."""
