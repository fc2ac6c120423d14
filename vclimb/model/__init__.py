"""Networks that classify clips, one file each, and passes of a network over items."""
