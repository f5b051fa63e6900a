"""Artifact -> answers. One file a runtime, all with the face of ``base.Session``."""
