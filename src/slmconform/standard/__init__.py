"""The standard as data: requirements, manifest, evidence and report. No torch, no model."""
