"""Tests of the balls, and of what they know of parameters."""
