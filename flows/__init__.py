"""Prefect flows that run the graph of dvc.yaml. They know DVC's commands, nothing of the stages' insides."""
