"""Budgets, and which frames and videos a memory keeps."""
