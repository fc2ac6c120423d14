"""Batches of clips, decoded on the CPU or by DALI."""
