"""Who may race, by name."""

from __future__ import annotations

from lightning_fw.race.baselines import BASELINES
from lightning_fw.race.frank_wolfe import ABLATIONS, PRESETS
from lightning_fw.race.method import Method

METHODS: dict[str, Method] = {method.name: method for method in (*PRESETS, *BASELINES, *ABLATIONS)}
