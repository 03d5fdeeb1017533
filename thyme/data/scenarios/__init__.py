"""The scenarios of the paper's fine-tuning data (design section 8; paper section 4.1): one file each, one line here."""

from __future__ import annotations

from thyme.data.scenarios.base import Scenario
from thyme.data.scenarios.computation import COMPUTATION
from thyme.data.scenarios.contrast import CONTRAST
from thyme.data.scenarios.correction import CORRECTION
from thyme.data.scenarios.crop import CROP
from thyme.data.scenarios.enhancement import ENHANCEMENT
from thyme.data.scenarios.no_code import NO_CODE
from thyme.data.scenarios.operations import OPERATIONS
from thyme.data.scenarios.rotation import ROTATION

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (NO_CODE, CROP, ROTATION, CONTRAST, OPERATIONS, COMPUTATION, ENHANCEMENT, CORRECTION)
}
"""By name: ``no_code``, ``crop``, ``rotation``, ``contrast``, ``operations``, ``computation`` (text only),
``enhancement`` and ``correction`` (both multi-round)."""
