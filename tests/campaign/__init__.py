"""Campaigns against vimdeploy: mutated files at every door (``tools/fuzz``), and SIGKILL (``tools/kill_test``)."""
