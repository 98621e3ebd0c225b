"""The legal neighbours of all defects, and what else is legal, pass everything."""

from __future__ import annotations

import pytest
from bases import REFERENCE
from defect_record import all_near_misses
from running import run

from slmconform.standard.report import Outcome

NEAR_MISSES = all_near_misses()
# The reference models as they are pass their last profile in `real/test_reference_models.py`.
REFERENCE_MODELS = {f"{path.parent.name} as it is" for path in REFERENCE.glob("*/slm.toml")}


@pytest.mark.parametrize("name", sorted(NEAR_MISSES.keys() - REFERENCE_MODELS))
def test_each_near_miss_passes_everything(name, bases, tmp_path):
    near, profile = NEAR_MISSES[name]
    told, results = run(near, profile, bases, tmp_path)
    assert told == {}
    assert any(one.outcome is Outcome.PASS for one in results)
    assert all(one.profile for one in results)
