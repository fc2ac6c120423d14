"""What a prepared data set holds on disk."""
