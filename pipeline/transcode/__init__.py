"""Raw videos to shards."""
