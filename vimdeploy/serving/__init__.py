"""Models in other programs' servers and clusters."""

SERVERS = ("triton",)
"""Whose model repositories ``vimdeploy package`` knows."""
