"""Listing of nodes: options, order, pages and their tokens.

A page token holds the position that the first page was read at, so that a walk through the pages
sees one state of the store, whatever is put meanwhile: no gap and no repeat.
"""

from __future__ import annotations

import base64

import msgspec

from eventstore.errors import InvalidArgumentError
from eventstore.log.kinds import NodeKind
from eventstore.log.record import Position
from eventstore.projections.listing import ALL_NODES, Found, InContext, Listing
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.store.snapshot import Snapshot
from eventstore.wording import quoted

MAX_PAGE_SIZE = 100
"""Nodes in one page at most; a greater `max_result_size` is cut to it."""

_OrderField = mlmd.ListOperationOptions.OrderByField
_ORDER_COLUMNS = {
    _OrderField.ID: "id",
    _OrderField.CREATE_TIME: "create_time",
    _OrderField.LAST_UPDATE_TIME: "update_time",
}


class Page(msgspec.Struct, frozen=True):
    """Nodes in listing order, the position to read them at, and the token, "" at the end."""

    found: Found
    position: Position
    next_page_token: str


class _PageToken(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """How far a walk is: the order it follows, the last row it gave, the position it reads at."""

    order_field: int
    is_ascending: bool
    last_value: int
    last_id: int
    position: Position


def list_page(
    snapshot: Snapshot,
    kind: NodeKind,
    options: mlmd.ListOperationOptions,
    *,
    type_id: int | None = None,
    context_id: int | None = None,
) -> Page:
    """One page of the nodes (of a type, of a context) in the order that `options` asks for."""
    order = options.order_by_field
    _check_order(options)
    if options.max_result_size <= 0:
        raise InvalidArgumentError(
            f"max_result_size is {options.max_result_size}: it must be 1 or more"
        )
    size = min(options.max_result_size, MAX_PAGE_SIZE)
    token = _parse_token(options) if options.next_page_token else None
    position = snapshot.position if token is None else min(token.position, snapshot.position)
    listing = listing_of(
        snapshot,
        kind,
        options,
        limit=size + 1,
        type_id=type_id,
        context_id=context_id,
        position=position,
        after=None if token is None else (token.last_value, token.last_id),
    )
    found = snapshot.projections.planner.find(listing)
    rows = found.rows
    if len(rows) <= size:
        return Page(found, position, "")
    last_id, last_value = rows[size - 1]
    next_token = _PageToken(order.field, order.is_asc, last_value, last_id, position)
    encoded = base64.urlsafe_b64encode(msgspec.msgpack.encode(next_token)).decode().rstrip("=")
    return Page(found._replace(rows=rows[:size]), position, encoded)


def listing_of(
    snapshot: Snapshot,
    kind: NodeKind,
    options: mlmd.ListOperationOptions,
    *,
    limit: int | None,
    context_id: int | None,
    type_id: int | None = None,
    position: Position | None = None,
    after: tuple[int, int] | None = None,
) -> Listing:
    """What `options` ask for, as of the snapshot's position or an earlier one.

    Raises InvalidArgumentError for an order or a filter that is none.
    """
    _check_order(options)
    order, where = options.order_by_field, None
    if options.filter_query:
        from eventstore.projections.filter import compile_filter

        where = compile_filter(options.filter_query, kind.name)
    return Listing(
        kind,
        snapshot.position if position is None else position,
        among=ALL_NODES if context_id is None else InContext(context_id),
        type_id=type_id,
        order_by=_ORDER_COLUMNS[order.field],
        descending=not order.is_asc,
        after=after,
        limit=limit,
        where=where,
    )


def _check_order(options: mlmd.ListOperationOptions) -> None:
    if options.order_by_field.field not in _ORDER_COLUMNS:
        raise InvalidArgumentError(
            "order_by_field.field is FIELD_UNSPECIFIED: use ID, CREATE_TIME or LAST_UPDATE_TIME"
        )


def _parse_token(options: mlmd.ListOperationOptions) -> _PageToken:
    text = options.next_page_token
    try:
        padded = text + "=" * (-len(text) % 4)
        decoded = base64.b64decode(padded, altchars=b"-_", validate=True)
        token = msgspec.msgpack.decode(decoded, type=_PageToken)
    except (ValueError, msgspec.MsgspecError):
        raise InvalidArgumentError(
            f"next_page_token {quoted(text)} is not one that this store gave out: pass the "
            "token of the last response unchanged"
        ) from None
    order = options.order_by_field
    if (token.order_field, token.is_ascending) != (order.field, order.is_asc):
        raise InvalidArgumentError(
            f"next_page_token {quoted(text)} belongs to a listing in another order: keep "
            "order_by_field the same from page to page"
        )
    return token
