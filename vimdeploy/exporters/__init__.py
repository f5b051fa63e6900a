"""Model -> artifact. One file per format."""
