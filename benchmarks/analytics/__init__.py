"""Ten analytical questions over sealed segments, on several engines."""
