"""The window: one inner loop in progress, between two restarts. Torch alone, no Lightning."""

from lightning_fw.window.window import Window

__all__ = ["Window"]
