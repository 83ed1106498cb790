"""The stages of the graph in dvc.yaml, one module each, and the rooms they share."""
