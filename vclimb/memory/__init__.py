"""The replay memory: exemplars as encoded frames in a zarr store, under a budget of videos, frames or bytes."""
