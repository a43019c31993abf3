"""Erasure: what is planned, recorded, answered and destroyed."""
