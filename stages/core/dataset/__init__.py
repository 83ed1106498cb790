"""Images resized to squares, augmented, and stored as arrays with their index."""
