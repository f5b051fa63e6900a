"""Measurements side by side: the time and memory that artifacts take on this machine."""
