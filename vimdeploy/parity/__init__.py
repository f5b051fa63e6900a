"""Proof that an artifact answers as its source does."""
