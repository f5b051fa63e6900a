"""The Python API, one file per function: what ``import vimdeploy`` offers."""
