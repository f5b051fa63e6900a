"""The models in plain PyTorch. ``config`` needs no torch; ``vim`` and ``deit`` do."""
