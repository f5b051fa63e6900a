"""What foreign code writes, as fewer nodes that say the same: one pass a file, each with its picture."""
