"""The small recurrent module's fixtures and those of compiled ones, here too."""

from tests.manual.compiled_nets import forget_graphs, graphs, no_recompilation
from tests.mixin.conftest import loader, make_trainer

__all__ = ["forget_graphs", "graphs", "loader", "make_trainer", "no_recompilation"]
