"""Writing what a check later reads: the manifest and the evidence."""
