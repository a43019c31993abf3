"""The version of ML Metadata whose API this is."""

__version__ = "1.17.1"
