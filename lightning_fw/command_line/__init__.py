"""What the commands share: arguments, exit statuses, JSON; and those that are no race or bench."""
