"""Which frames and which crop a clip has, as pure functions of (seed, epoch, item)."""
