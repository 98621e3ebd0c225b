"""Numbers taken from a loaded model, each once. Imports torch."""
