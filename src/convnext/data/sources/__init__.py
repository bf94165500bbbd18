"""From a place to samples in splits."""
