"""The small recurrent module's fixtures, here too."""

from tests.mixin.conftest import loader, make_trainer

__all__ = ["loader", "make_trainer"]
