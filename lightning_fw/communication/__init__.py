"""What ranks tell each other: measured on this machine, and modelled for others."""
