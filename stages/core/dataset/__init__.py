"""Images decoded, made square, augmented, and as arrays with their index."""
