"""Notes on the verdict that take more than a sentence or two to work out."""
