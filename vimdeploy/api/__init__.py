"""What ``import vimdeploy`` offers, one file per verb: paths and options in, results out; nothing is printed.

The commands of ``cli/`` and the scripts of ``export/`` call these and nothing beneath them.
"""
