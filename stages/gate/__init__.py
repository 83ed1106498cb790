"""The gate, which checks that results have not regressed: `python -m stages.gate`."""
