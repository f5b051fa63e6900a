"""What stands on a backbone, one file per task: a module that holds it as ``backbone``."""
