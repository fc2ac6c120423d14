"""What would fit a budget and how long it would take."""
