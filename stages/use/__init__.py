"""A program beside the graph: declare a named set of backbones in params.yaml."""
