"""Where a classifier looks, and which images it sees as alike."""
