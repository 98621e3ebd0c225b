"""The names of the documents of a package, for those who only look whether they are there."""

from __future__ import annotations

MANIFEST = "slm.toml"
EVIDENCE = "conformance/evidence.json"
EVIDENCE_TENSORS = "conformance/evidence.safetensors"
MANIFEST_LIMIT = 2**20  # bytes
EVIDENCE_LIMIT = 4 * 2**20  # bytes, of either file of the evidence
WAIVERS = "slm-waivers.toml"  # of the adopter's repository, not of the package
