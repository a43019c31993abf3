"""The queries for the ids of nodes in order, on the tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from eventstore.log import kinds
from eventstore.projections.filter import Join, SemiJoin
from eventstore.projections.listing import AllNodes, InContext, Listing, NodeIds
from eventstore.projections.table_changes import LINK_TABLES, NODE_TABLES, NOT_ENDED

_LINKS_TO_CONTEXT: Final = {
    kinds.ARTIFACT: ("attributions", "artifact_id"),
    kinds.EXECUTION: ("associations", "execution_id"),
}
_NODE_ID: Final = re.compile(r"\bnode\.id\b")
_HAVING: Final = re.compile(r"\bhaving\((\d+)\)")
_COLUMN: Final = re.compile(r"\b((?:node|property|neighbour)(?:_\d+)?(?:_type|_link)?)\.(\w+)")
_ROW_GROUP_ROWS: Final = 122_880
_HEAP_ROWS_MAX: Final = 100
"""In one row group, where the newest rows are the last, DuckDB's heap for the greatest takes twice
as long as sorting, if it is to keep more than so many."""
_NO_LIMIT: Final = 2**62
"""A LIMIT of so many rows lets all pass, and DuckDB computes no condition before it."""


def listing_sql(listing: Listing, *, is_now: bool) -> tuple[str, dict[str, Any]]:
    """The query for (id, order value), and its parameters.

    With `is_now` it holds for tables that are folded up to `as_of` and no further: what is current
    is then told by one comparison.
    """
    where, parameters = listing.where, dict(listing.where.parameters) if listing.where else {}
    joins = list(where.joins) if where is not None else []
    conditions = [where.condition] if where is not None else []
    match listing.among:
        case InContext(context_id):
            links, end = _LINKS_TO_CONTEXT[listing.kind]
            joins.append(Join(links, "link", ("link.context_id = $context_id",), end, ends=False))
            parameters["context_id"] = context_id
        case NodeIds(node_ids):
            conditions.append("node.id IN (SELECT unnest($node_ids))")
            parameters["node_ids"] = list(node_ids)
        case AllNodes():
            pass
    if listing.type_id is not None:
        conditions.append("node.type_id = $type_id")
        parameters["type_id"] = listing.type_id
    if listing.within is not None:
        ends = listing.within[0], listing.within[-1]
        parameters["lowest_id"], parameters["highest_id"] = min(ends), max(ends)
    if listing.after is not None:
        conditions.append(_after(listing))
        parameters["after_value"], parameters["after_id"] = listing.after
    driver = _driver(listing, joins)
    if driver in joins:
        joins.remove(driver)
    conditions += [*driver.on, *_alive(driver, is_now=is_now), *_within(listing, "node.id")]
    joined = "\n".join(_joined(join, is_now=is_now) for join in joins)
    direction = "DESC" if listing.descending else "ASC"
    order = f"node.{listing.order_by} {direction}"
    if listing.order_by != "id":
        order += f", node.id {direction}"
    limit = ""
    if listing.limit is not None:
        is_sorted = listing.descending and listing.limit > _HEAP_ROWS_MAX
        limit = "LIMIT $limit"
        if is_sorted and listing.as_of <= _ROW_GROUP_ROWS:
            # DuckDB then sorts all rows.
            limit = "LIMIT (SELECT $limit)"
        parameters["limit"] = listing.limit
    distinct = "DISTINCT " if any(join.repeats for join in (driver, *joins)) else ""
    sql = f"""
    SELECT {distinct}node.id, node.{listing.order_by}
    FROM {driver.table} AS {driver.alias}
    {joined}
    WHERE {" AND ".join(conditions)}
    ORDER BY {order}
    {limit}
    """
    if not is_now:
        parameters["as_of"] = listing.as_of
    key = f"{driver.alias}.{driver.node_key}"
    sql = _NODE_ID.sub(key, sql)
    semi_joins = where.semi_joins if where is not None else ()
    found = [f"{key} IN ({_semi_join(one, listing, is_now=is_now)})" for one in semi_joins]
    return _HAVING.sub(lambda match: found[int(match.group(1))], sql), parameters


def positions_sql(listing: Listing) -> tuple[str, dict[str, Any]]:
    """The query for the positions of the versions of all nodes of a kind or type, by id."""
    condition = ""
    parameters: dict[str, Any] = {"as_of": listing.as_of}
    if listing.type_id is not None:
        condition, parameters["type_id"] = "AND type_id = $type_id", listing.type_id
    sql = f"""
    SELECT valid_from
    FROM {NODE_TABLES[listing.kind.name][0]}
    WHERE valid_from <= $as_of AND valid_to > $as_of {condition}
    ORDER BY id
    """
    return sql, parameters


def counts_sql(as_of: int) -> tuple[str, dict[str, Any]]:
    """The query for how many types, nodes and links there are, by kind."""
    alive = "valid_from <= $as_of AND valid_to > $as_of"
    queries = [f"SELECT kind, count(*) FROM types WHERE {alive} GROUP BY kind"]
    queries += [
        f"SELECT '{kind}', count(*) FROM {nodes} WHERE {alive}"
        for kind, (nodes, _) in NODE_TABLES.items()
    ]
    queries += [
        f"SELECT '{kind}', count(*) FROM {links} WHERE valid_from <= $as_of"
        for kind, links in LINK_TABLES.items()
    ]
    return " UNION ALL ".join(queries), {"as_of": as_of}


def _driver(listing: Listing, joins: Iterable[Join]) -> Join:
    """The table that the query starts from: the nodes', unless another one says all that is asked.

    Properties are valid for as long as their node's version is, and links have nodes at both ends.
    """
    nodes = Join(NODE_TABLES[listing.kind.name][0], "node", node_key="id")
    if listing.where is None or listing.where.names_node or listing.order_by != "id":
        return nodes
    if listing.type_id is not None:
        return nodes
    found = [join for join in joins if join.node_key is not None]
    return min(found, key=lambda join: join.repeats, default=nodes)


def _after(listing: Listing) -> str:
    comparison = "<" if listing.descending else ">"
    if listing.order_by == "id":
        # DuckDB refuses a value that no text names.
        return f"node.id {comparison} $after_id AND $after_value IS NOT NULL"
    return f"(node.{listing.order_by}, node.id) {comparison} ($after_value, $after_id)"


def _joined(join: Join, *, is_now: bool) -> str:
    key = [f"{join.alias}.{join.node_key} = node.id"] if join.node_key is not None else []
    on = " AND ".join([*key, *join.on, *_alive(join, is_now=is_now)])
    return f"JOIN {join.table} AS {join.alias} ON {on}"


def _semi_join(semi_join: SemiJoin, listing: Listing, *, is_now: bool) -> str:
    """The query for the nodes that have such neighbours."""
    of_node = list(semi_join.of_node)
    texts = (semi_join.condition, *(on for join in of_node for on in join.on))
    named = [column for text in texts for column in _COLUMN.findall(text)]
    if any(table == "node" and column != "id" for table, column in named):
        of_node.insert(0, Join(NODE_TABLES[listing.kind.name][0], "node", node_key="id"))
    if len(semi_join.chains) > 1:
        return _joined_apart(semi_join, of_node, listing, is_now=is_now)
    joins = _in_order([*semi_join.chains[0], *of_node])
    return _rows_of((), joins, semi_join.condition, listing, is_now=is_now)


def _rows_of(
    columns: Iterable[str], joins: Sequence[Join], condition: str, listing: Listing, *, is_now: bool
) -> str:
    """The keys of nodes, and columns, where what leads from their keys has rows."""
    first, *others = joins
    key = f"{first.alias}.{first.node_key}"
    said = ", ".join((f"{key} AS node_id", *columns))
    joined = " ".join(_joined(join, is_now=is_now) for join in others)
    # Said here, too: DuckDB does not always see that no others are asked for.
    within = _within(listing, key)
    conditions = " AND ".join((*first.on, *_alive(first, is_now=is_now), *within, condition))
    sql = f"SELECT {said} FROM {first.table} AS {first.alias} {joined} WHERE {conditions}"
    return _NODE_ID.sub(key, sql)


def _joined_apart(
    semi_join: SemiJoin, of_node: Sequence[Join], listing: Listing, *, is_now: bool
) -> str:
    """The same for several neighbours that a condition speaks of together.

    Of each of them only what differs in the columns that are named is joined. The condition comes
    after the join, since DuckDB does not check within a join whether to stop.
    """
    numbers = {column: f"c{n}" for n, column in enumerate(_COLUMN.findall(semi_join.condition))}
    joins, columns = list(of_node), list[str]()
    tests = dict(semi_join.tests)
    for number, (chain, alone) in enumerate(
        zip(semi_join.chains, semi_join.of_chains, strict=True)
    ):
        aliases = {join.alias for join in chain}
        of_chain = [
            f"{tests.get(f'{t}.{c}', f'{t}.{c}')} AS {said}"
            for (t, c), said in numbers.items()
            if t in aliases
        ]
        rows = _rows_of(of_chain, chain, alone, listing, is_now=is_now)
        joins.append(Join(f"(SELECT DISTINCT * FROM ({rows}))", f"n{number}", node_key="node_id"))
        columns += [said for (t, _), said in numbers.items() if t in aliases]
    neighbours = {join.alias for chain in semi_join.chains for join in chain}
    columns += [f"{t}.{c} AS {said}" for (t, c), said in numbers.items() if t not in neighbours]
    condition = _COLUMN.sub(
        lambda match: numbers[match.group(1), match.group(2)], semi_join.condition
    )
    rows = _rows_of(columns, _in_order(joins), "true", listing, is_now=is_now)
    return f"SELECT node_id FROM ({rows} LIMIT {_NO_LIMIT}) WHERE {condition}"


def _in_order(joins: Iterable[Join]) -> list[Join]:
    """The nodes first, if they are among them; what has no key is joined through another."""
    return sorted(joins, key=lambda join: (join.alias != "node", join.node_key is None))


def _alive(join: Join, *, is_now: bool) -> list[str]:
    alias = join.alias
    if join.table.startswith("("):
        # A query, which has seen to it.
        return []
    if is_now:
        return [f"{alias}.valid_to = {NOT_ENDED}"] if join.ends else []
    begun = f"{alias}.valid_from <= $as_of"
    return [begun, f"{alias}.valid_to > $as_of"] if join.ends else [begun]


def _within(listing: Listing, key: str) -> list[str]:
    if listing.within is None:
        return []
    return [f"{key} BETWEEN $lowest_id::BIGINT AND $highest_id::BIGINT"]
