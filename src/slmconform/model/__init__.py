"""A package as a loaded model: loaders, device, probe inputs, float64. Imports torch."""
