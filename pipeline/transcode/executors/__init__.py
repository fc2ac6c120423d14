"""Executors: where shards are made. One file each."""
