"""Who may race, by name."""

from __future__ import annotations

from lightning_fw.race.baselines import BASELINES
from lightning_fw.race.method import Method
from lightning_fw.race.windows import ABLATIONS, PRESETS

METHODS: dict[str, Method] = {method.name: method for method in (*PRESETS, *BASELINES, *ABLATIONS)}
