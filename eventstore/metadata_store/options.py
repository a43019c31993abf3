"""How a listing is cut, ordered and filtered."""

from __future__ import annotations

import enum

import attrs

from eventstore.proto import metadata_store_pb2 as mlmd

_Field = mlmd.ListOperationOptions.OrderByField


@enum.unique
class OrderByField(enum.Enum):
    """What a listing can be ordered by; ties are ordered by id."""

    CREATE_TIME = int(_Field.CREATE_TIME)
    UPDATE_TIME = int(_Field.LAST_UPDATE_TIME)
    ID = int(_Field.ID)


@attrs.define(slots=False, order=True)
class ListOptions:
    """How `get_artifacts` and its kin list nodes.

    At most `limit` nodes (None or 0: all), ordered by `order_by` (None: by id), ascending if
    `is_asc`. `filter_query` is a boolean expression on the nodes' attributes, properties and
    neighbours, such as `type = 'Model' AND properties.accuracy.double_value > 0.9`.
    """

    limit: int | None = None
    order_by: OrderByField | None = None
    is_asc: bool = True
    filter_query: str | None = None


class ExtraOptions:
    """Accepted by every method for compatibility; it has no effect."""

    def __init__(self, euc: object = None) -> None:
        """`euc` is ignored."""
