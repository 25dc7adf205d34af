"""What the monitor is made of: recorded runs, their files, loss curves, logging, tables."""
