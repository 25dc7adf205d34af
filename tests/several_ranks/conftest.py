from tests.mixin.conftest import make_trainer

__all__ = ["make_trainer"]
