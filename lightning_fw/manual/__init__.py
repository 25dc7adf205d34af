"""What manual optimization takes away, given back: one file a matter."""
