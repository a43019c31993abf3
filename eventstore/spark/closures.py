"""The lineage of very many nodes at once."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Final

from eventstore.errors import InvalidArgumentError
from eventstore.projections.lineage import INPUTS, OUTPUTS
from eventstore.proto import metadata_store_pb2 as mlmd

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def _known(spark: SparkSession, starts: DataFrame, prefix: str) -> DataFrame:
    """Those of some nodes that are there. Raises InvalidArgumentError for other kinds."""
    others = starts.where("kind IS NULL OR kind NOT IN ('artifact', 'execution')")
    for row in others.select("kind").take(1):
        raise InvalidArgumentError(
            f"starts has the kind {row['kind']!r}: lineage leads from 'artifact' and 'execution'"
        )
    nodes = spark.sql(_NODES.format(prefix=prefix))
    return starts.select("kind", "id").join(nodes, ["kind", "id"], "left_semi")


def _names(numbers: frozenset[int]) -> str:
    return ", ".join(f"'{mlmd.Event.Type.Name(number)}'" for number in sorted(numbers))


# One number for a node: ids of executions are odd, those of artifacts even.
_EDGES: Final = f"""
SELECT DISTINCT
    CASE WHEN is_input THEN artifact ELSE execution END AS source,
    CASE WHEN is_input THEN execution ELSE artifact END AS target
FROM (
    SELECT
        artifact_id * 2 AS artifact, execution_id * 2 + 1 AS execution,
        type IN ({_names(INPUTS)}) AS is_input
    FROM {{events}}
    WHERE type IN ({_names(INPUTS | OUTPUTS)})
)
"""
_NODES: Final = """
SELECT 'artifact' AS kind, id FROM `{prefix}artifacts`
UNION ALL SELECT 'execution', id FROM `{prefix}executions`
"""
_KIND: Final = "CASE WHEN {node} % 2 = 0 THEN 'artifact' ELSE 'execution' END"


def lineage_closure(
    spark: SparkSession,
    *,
    direction: str = "downstream",
    starts: DataFrame | None = None,
    max_hops: int | None = None,
    prefix: str = "",
) -> DataFrame:
    """All that is upstream or downstream of many nodes, over the views that are registered.

    `starts` has the columns `kind` (`artifact`, `execution`) and `id`, of which those that the
    views do not have are left out. Without it they are all nodes that have events, whose closure
    may be as large as the square of their number. The result
    has the columns `ancestor_kind`, `ancestor_id`, `descendant_kind`, `descendant_id` and
    `distance`: the hops between the two on the shortest way, 0 from a node to itself. A hop leads
    from an artifact to an execution or back, and cycles end, as in `store.upstream` and
    `store.downstream`. It is computed hop by hop, at once, and kept by the executors.

    Raises InvalidArgumentError for an unknown direction or kind, and for negative hops.
    """
    if direction not in ("upstream", "downstream"):
        raise InvalidArgumentError(f"direction {direction!r}: use 'upstream' or 'downstream'")
    if max_hops is not None and max_hops < 0:
        raise InvalidArgumentError(f"max_hops is {max_hops}: use 0 or more, or None for all")
    if starts is not None:
        starts = _known(spark, starts, prefix)
    events = f"`{prefix}events`"
    edges = spark.sql(_EDGES.format(events=events)).localCheckpoint()
    near, far = ("source", "target") if direction == "downstream" else ("target", "source")
    steps = edges.selectExpr(f"{near} AS node", f"{far} AS reached")
    if starts is None:
        ends = edges.select("source").union(edges.select("target"))
        nodes = ends.selectExpr("source AS node").distinct()
    else:
        nodes = starts.selectExpr("id * 2 + CAST(kind = 'execution' AS INT) AS node").distinct()
    level = nodes.selectExpr("node AS start", "node", "0 AS distance").localCheckpoint()
    levels = [level]
    while level.take(1) and (max_hops is None or len(levels) <= max_hops):
        known = reduce(lambda left, right: left.union(right), levels)
        level = (
            level.join(steps, "node")
            .selectExpr("start", "reached AS node", f"{len(levels)} AS distance")
            .distinct()
            .join(known.select("start", "node"), ["start", "node"], "left_anti")
            .localCheckpoint()
        )
        levels.append(level)
    ancestor, descendant = ("start", "node") if direction == "downstream" else ("node", "start")
    return reduce(lambda left, right: left.union(right), levels).selectExpr(
        f"{_KIND.format(node=ancestor)} AS ancestor_kind",
        f"{ancestor} DIV 2 AS ancestor_id",
        f"{_KIND.format(node=descendant)} AS descendant_kind",
        f"{descendant} DIV 2 AS descendant_id",
        "distance",
    )
