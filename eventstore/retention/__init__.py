"""Erasure, retention and legal hold: what is planned, recorded, kept and destroyed."""
