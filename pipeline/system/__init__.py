"""Durable writes, locks, interrupts and cores."""
