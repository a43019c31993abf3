"""How much the projections keep, gather or look through before they do something else."""

from __future__ import annotations

from typing import Final

import msgspec


class IndexLimits(msgspec.Struct, frozen=True):
    """Those of the point index."""

    tail_records_max: int = 16_384
    """A tail with more records than this is written out as a run."""

    closing_records_min: int = 1_000
    """A tail with fewer is not written out when the store is closed."""

    built_records_max: int = 262_144
    """About how many records of the log become a run at a time without going through the tail."""

    built_bytes_max: int = 128 * 1024 * 1024
    """Fewer, when their files are longer than this."""

    run_records_max: int = 2_097_152
    """No merge makes a run of more records: that bounds the memory that merging takes."""

    copied_bytes_max: int = 32 * 1024 * 1024
    """A run's file of at most this size is copied into memory, as far as it is asked for. Such
    files are few, since neighbours of like size are merged."""

    written_rows_max: int = 16_384
    """How many rows of a table are in memory at once while a run is written."""

    read_values_max: int = 131_072
    """How many values are read at once where very many are asked for."""


class CandidateLimits(msgspec.Struct, frozen=True):
    """How much is looked up or judged before a query is the cheaper way."""

    nodes_max: int = 2_000
    held_min: int = 256
    held_share: int = 100
    """Nodes that come by value: at most `held_min`, and one in so many of all nodes, are judged. To
    scan the tables, which the values came from, takes no longer where there are few nodes."""

    sorted_max: int = 8_192
    """More ids that come by value are not put in order, even where the first of them may do."""

    neighbours_max: int = 20_000
    at_once: int = 64
    contexts_max: int = 100
    names_max: int = 500
    gaps_max: int = 4
    """A page of all nodes tries at most this many ids per row."""

    first_ids: int = 32_768
    """A page by id is looked for among so many ids before it is among all."""

    first_share: int = 16
    """Only if there are in all at least this many times `first_ids`."""


class Limits(msgspec.Struct, frozen=True):
    """Those of all projections of a log."""

    index: IndexLimits = IndexLimits()
    candidates: CandidateLimits = CandidateLimits()

    background_records: int = 65_536
    """From its first multiple of this position on, a process folds what is sealed into the tables
    as it puts; it looks several times per round of so many records."""

    unsealed_records: int = 16_384
    """So many that are not sealed yet are folded then, too. Puts rest where twice as many wait."""


LIMITS: Final = Limits()
