"""What balls and windows share: arithmetic on lists of tensors, scalars, parts of tensors."""
