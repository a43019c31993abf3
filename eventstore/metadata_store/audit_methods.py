"""What an auditor asks of a store: checkpoints, proofs that can be checked without it, reports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from eventstore.errors import DataLossError
from eventstore.log import Progress, VerifyReport
from eventstore.log.places import named_path
from eventstore.long_work import long_work
from eventstore.metadata_store.served import served, where_the_store_is
from eventstore.metadata_store.source import SourceMethods

if TYPE_CHECKING:
    from eventstore.audit import Checkpoint, ConsistencyProof, InclusionProof, SigningKey
    from eventstore.audit.statement import Statement
    from eventstore.audit.tile_publication import Publication


class AuditMethods(SourceMethods):
    """Checkpoints, proofs and reports. They need the extra `audit`."""

    @long_work("Hashing")
    def checkpoint(
        self,
        key: SigningKey,
        *,
        previous: Checkpoint | None = None,
        progress: Progress | None = None,
    ) -> Checkpoint:
        """Sign the state of all history up to now, or as of this moment.

        Its `text` is to be kept where nobody who can write the store can write: `verify` then finds
        even that all of history was rewritten. What is signed is computed from all records, and
        must begin with what `previous` states, the last checkpoint that the signer has kept.
        `progress` is called with (records done, records in all).

        Raises OutOfRangeError for an empty store, DataLossError when the records are not those that
        were appended or that `previous` states, NotFoundError when that is another store's,
        InvalidArgumentError when it states more records than are to be signed.
        """
        from eventstore.audit.checkpoint import signed

        made = signed(self._statement(previous, progress), key)
        if previous is not None and not self._source.is_here:
            # Only a server has looked at the records, and it could say anything.
            self.prove_consistency(previous, made)
        return made

    @served("audit", rpc="Statement")
    def _statement(self, previous: Checkpoint | None, progress: Progress | None) -> Statement:
        from eventstore.audit.checkpoint import statement_of

        source = self._source
        return statement_of(source.log, source.position(), previous=previous, progress=progress)

    @long_work("Hashing")
    def prove(
        self, position: int, checkpoint: Checkpoint, progress: Progress | None = None
    ) -> InclusionProof:
        """Prove the record at a position to be part of what a checkpoint of this store states.

        The first proof of a store reads all of its log, for which `progress` is called with
        (records done, records in all). Raises OutOfRangeError for a position after the checkpoint,
        NotFoundError for a checkpoint of another store, DataLossError when the log is no longer
        what was signed.
        """
        proof = self._proof(position, checkpoint, progress)
        if self._source.is_here:
            return proof
        from dataclasses import replace

        proof = replace(proof, checkpoint=checkpoint)
        if proof.record.position != position:
            raise DataLossError(
                f"the server proves the record at position {proof.record.position}, not {position}"
            )
        proof.refuse_broken()
        return proof

    @served("audit", rpc="Prove")
    def _proof(
        self, position: int, checkpoint: Checkpoint, progress: Progress | None
    ) -> InclusionProof:
        from eventstore.audit import prove_inclusion
        from eventstore.audit.subtree_heads import heads_of

        log = self._source.log
        heads = heads_of(log, self._source.projections)
        return prove_inclusion(log, heads, position, checkpoint, progress)

    @long_work("Hashing")
    def prove_consistency(
        self, older: Checkpoint, newer: Checkpoint, progress: Progress | None = None
    ) -> ConsistencyProof:
        """Prove that what a newer checkpoint states begins with all that an older one does.

        Raises InvalidArgumentError when they are swapped, NotFoundError for a checkpoint of another
        store, DataLossError when the log is no longer what was signed.
        """
        proof = self._consistency_proof(older, newer, progress)
        if self._source.is_here:
            return proof
        from dataclasses import replace

        proof = replace(proof, older=older, newer=newer)
        proof.refuse_broken()
        return proof

    @served("audit", rpc="ProveConsistency")
    def _consistency_proof(
        self, older: Checkpoint, newer: Checkpoint, progress: Progress | None
    ) -> ConsistencyProof:
        from eventstore.audit import prove_consistency
        from eventstore.audit.subtree_heads import heads_of

        log = self._source.log
        heads = heads_of(log, self._source.projections)
        return prove_consistency(log, heads, older, newer, progress)

    @long_work("Publishing")
    @where_the_store_is
    def publish_tiles(
        self, folder: str | Path, checkpoint: Checkpoint, progress: Progress | None = None
    ) -> Publication:
        """Write a checkpoint of this store, its tree and its entries as C2SP's tiles.

        Any web server can serve the folder, and auditors check it with `eventstore.audit` or the
        stand-alone verifier without asking the store. Only what the folder lacks is written, the
        checkpoint last. Entries have no content, but commitments to it. `progress` is called with
        (records done, records in all).

        Raises NotFoundError for a checkpoint of another store, FailedPreconditionError when a later
        one is published there, DataLossError when the log is no longer what was signed, or not
        what was published.
        """
        from eventstore.audit.tile_publication import publish_tiles

        return publish_tiles(self._source.log, checkpoint, named_path(folder), progress)

    @served("audit")
    def report(
        self,
        kind: str,
        node_id: int,
        *,
        verification: VerifyReport | None = None,
        checkpoint: Checkpoint | None = None,
        limit: int | None = 100,
    ) -> str:
        """An audit report on an artifact or execution: one HTML document that needs nothing else.

        It has what was known, now or as of this moment, and what has changed since; the lineage,
        drawn; who put each version, when and why; and the head that pins this history. What
        `verify` returned is shown when given. With a checkpoint of this store the report says that
        it holds, and proves each version that it covers. Of the lineage at most `limit` nodes are
        shown, None for all: its origins, the ways to them, and what is near; where others are left
        out, the drawing says how many.

        Raises NotFoundError for an unknown node or a checkpoint of another store,
        InvalidArgumentError for another kind or a limit below 1, DataLossError when the log is no
        longer what was signed, FailedPreconditionError without the extra `audit`.
        """
        from eventstore.report import report_html

        return report_html(
            self._source.log,
            self._source.projections,
            kind,
            node_id,
            self._source.position(),
            verification=verification,
            checkpoint=checkpoint,
            limit=limit,
        )
