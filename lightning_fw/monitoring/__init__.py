"""What the monitor is made of: recorded runs, statistics, files, loss curves, tables, pictures."""
