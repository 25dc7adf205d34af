"""Tests of the balls and of the arithmetic under them."""
