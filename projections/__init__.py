"""The read models: folded from the log, thrown away and rebuilt at will. They know no RPCs."""

from eventstore.projections.projections import Projections

__all__ = ["Projections"]
