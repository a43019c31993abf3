"""Makes large stores to measure with."""
