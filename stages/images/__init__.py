"""What happens to pictures before a network sees them. No TensorFlow."""
