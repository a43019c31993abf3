"""The write path and the reads behind every RPC: requests in, responses out.

`Engine` runs them on one log and its projections; the public API above it only builds requests.
"""

from eventstore.store.engine import Engine

__all__ = ["Engine"]
