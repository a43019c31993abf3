"""A store's sealed segments on Spark: the views of `store.sql`, and lineage as a whole.

It needs the extra `spark`, and no more of the store than its files.
"""

from eventstore.spark.closures import lineage_closure
from eventstore.spark.registering import RegisteredViews, register_views

__all__ = ["RegisteredViews", "lineage_closure", "register_views"]
