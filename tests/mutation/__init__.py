"""Mutation runs: one change of the code at a time, and whether a test notices.

`python -m tests.mutation --help` says how to start one.
"""
