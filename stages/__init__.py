"""The stages of the graph in dvc.yaml, one module each, and the rooms they share."""

# Before any library: they read settings, and may lack something of the machine's, when they are imported.
from stages.core import errors as errors
from stages.core import surroundings as surroundings

surroundings.require_memory()
