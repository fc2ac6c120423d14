"""The built-in data set: short labelled videos, drawn and encoded here, to try everything without a download."""
