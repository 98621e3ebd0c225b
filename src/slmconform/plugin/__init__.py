"""What the pytest plugin is made of: options, collecting, one examination a package, outcomes."""
