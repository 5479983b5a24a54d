"""Variants of methods that repeat the released benchmark code, defects included, where published numbers depend on them."""
