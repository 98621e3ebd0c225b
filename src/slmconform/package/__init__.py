"""A model directory, read strictly and without running anything of it."""
