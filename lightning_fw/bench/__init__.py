"""``lightning-fw bench``: what an inner step costs beside an optimizer's step."""
