"""What the features that the tests of several rooms are made with have in common."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
CLASSES = ("cold", "warm")
# Of the features, which tell two classes apart, but not all too well.
WIDTH = 6
