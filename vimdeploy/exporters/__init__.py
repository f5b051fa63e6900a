"""Model -> artifact. One file a format."""
