"""Studies: many runs that differ in a few settings, and one report of what they say."""
