"""Copies of a store: encrypted ones, and what was erased since one was made."""
