"""Networks that classify clips."""
