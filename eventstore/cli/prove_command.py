"""`eventstore prove`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from eventstore.answers import ConsistencyAnswer, InclusionAnswer, ProofAnswer
from eventstore.cli.commands import command, output_options
from eventstore.cli.entities import spoken
from eventstore.cli.paths import PlaceName, checked, file_option, naming, text_of
from eventstore.cli.progress import progress_bar
from eventstore.cli.results import Output, Paragraph, note
from eventstore.cli.stores import opened_store
from eventstore.cli.trust import checkpoint_of, cosigned_words, trust_of, trust_options
from eventstore.log.places import Place
from eventstore.plain_values import shown_struct
from eventstore.times import moment_of
from eventstore.wording import counted

if TYPE_CHECKING:
    from eventstore.audit.checkpoint import Trust
    from eventstore.history import ErasedBy
    from eventstore.log import Record


@command(
    "prove",
    examples=(
        "eventstore prove my-store 1234 --checkpoint new.checkpoint --key ana.pub > record.proof",
        "eventstore prove my-store --since old --checkpoint new.checkpoint --key ana.pub > proof",
        "eventstore prove --check record.proof --key ana.pub",
        "eventstore prove --check history.proof --since old --policy policy.txt",
    ),
)
@click.argument("place", metavar="[STORE]", required=False, type=PlaceName())
@click.argument("position", metavar="[POSITION]", required=False, type=int)
@file_option("--checkpoint", "checkpoint_file", "The signed checkpoint to prove against.")
@file_option(
    "--since", "older_file", "Prove that nothing before this older checkpoint was changed."
)
@file_option("--check", "proof_file", "Check a proof instead; it needs no store.")
@trust_options
@output_options
def prove_command(
    place: Place | None,
    position: int | None,
    checkpoint_file: Path | None,
    older_file: Path | None,
    proof_file: Path | None,
    key_file: Path | None,
    policy_file: Path | None,
    rotation_files: tuple[Path, ...],
    output: Output,
) -> None:
    """Print a proof that can be checked without the store, or check one.

    Of the record at POSITION: that it is part of what the checkpoint states, as a C2SP
    `tlog-proof`. With --since: that the checkpoint states all that the older one did, as a request
    to a C2SP `tlog-witness`; to check it takes --since, too.
    """
    trust = trust_of(key_file, policy_file, rotation_files)
    if proof_file is not None:
        if (place, position, checkpoint_file) != (None, None, None):
            raise click.UsageError("--check takes --key or --policy, and --since")
        _check(proof_file, older_file, trust, output)
        return
    if place is None or checkpoint_file is None or (position is None) == (older_file is None):
        raise click.UsageError("say STORE, --checkpoint, and either POSITION or --since")
    checkpoint = checkpoint_of(checkpoint_file, trust)
    erasures: tuple[ErasedBy, ...] = ()
    with opened_store(place) as store, progress_bar("Hashing") as progress:
        if older_file is not None:
            older = checkpoint_of(older_file, trust)
            proof = store.prove_consistency(older, checkpoint, progress).to_text()
        else:
            assert position is not None
            proof = store.prove(position, checkpoint, progress).to_text()
            from eventstore.history.marks import marks_of

            erasures = marks_of(store.log, store._source.snapshot().index).of(position)
    output.text_or(proof, ProofAnswer(proof))
    for mark in erasures:
        note(
            f"Erased of this record, by erasure {mark.number}: {mark.what}. The record of "
            f"that erasure, at position {mark.position}, is proved likewise."
        )


def _check(file: Path, older_file: Path | None, trust: Trust, output: Output) -> None:
    from eventstore.audit import ConsistencyProof, InclusionProof
    from eventstore.audit.proof_text import CONSISTENCY_WORD, INCLUSION_HEADER

    with checked():
        text = text_of(file)
    if older_file is None and text.startswith(f"{CONSISTENCY_WORD} "):
        raise click.UsageError("say --since, the older checkpoint that the proof starts from")
    if older_file is not None:
        if text.startswith(INCLUSION_HEADER):
            raise click.UsageError("the proof is of one record: leave --since out")
        older = checkpoint_of(older_file, trust)
        with checked(), naming(file):
            found = ConsistencyProof.check(text, older, trust)
        output.said(
            f"The {counted(found.newer.size, 'record')} that {found.newer.signer} signed on "
            f"{output.moment(found.newer.signed_at)} begin with the {found.older.size} signed on "
            f"{output.moment(found.older.signed_at)}{cosigned_words(found.newer)}.",
            ConsistencyAnswer(
                signer=found.newer.signer,
                older_size=found.older.size,
                older_signed_at=found.older.signed_at,
                newer_size=found.newer.size,
                newer_signed_at=found.newer.signed_at,
                witnesses=list(found.newer.witnesses),
            ),
        )
        return
    with checked(), naming(file):
        proved = InclusionProof.check(text, trust)
    record, checkpoint = proved.record, proved.checkpoint
    if output.form != "text":
        answer = InclusionAnswer(
            signer=checkpoint.signer,
            signed_at=checkpoint.signed_at,
            position=record.position,
            kind=record.kind,
            entity_id=record.entity_id,
            actor=record.actor,
            content=proved.message,
            store_id=str(checkpoint.store_id),
            commit=record.commit,
            recorded_at=moment_of(record.recorded_at),
            type_id=record.type_id,
            previous=record.previous,
            reason=record.reason,
            request_id=record.request_id,
            witnesses=list(checkpoint.witnesses),
        )
        output.said("", answer)
        return
    from eventstore.history.fields import plain_fields

    content = (
        ["its content is not shown"]
        if proved.message is None
        else [
            f"{name}: {output.shown(shown_struct(value))}"
            for name, value in plain_fields(record.kind, proved.message).items()
        ]
    )
    output.paragraphs(
        [
            Paragraph(
                f"The record at position {record.position} ({spoken(record.kind)} "
                f"{record.entity_id}{_by_whom(record)}) is part of what {checkpoint.signer} signed "
                f"on {output.moment(checkpoint.signed_at)}{cosigned_words(checkpoint)}:",
                content,
            ),
            Paragraph(
                f"It was recorded at {output.moment(moment_of(record.recorded_at))}, in commit "
                f"{record.commit} of store {checkpoint.store_id}{_further(record)}."
            ),
        ]
    )


def _by_whom(record: Record) -> str:
    if record.who_commitment is not None:
        return ", by whom is not shown"
    return "" if record.actor is None else f", by {record.actor}"


def _further(record: Record) -> str:
    """What else the record says of itself, where it says it."""
    words = ""
    if record.type_id is not None:
        words += f", with type {record.type_id}"
    if record.previous is not None:
        words += f", in place of position {record.previous}"
    if record.reason is not None:
        words += f", reason {record.reason!r}"
    if record.request_id is not None:
        words += f", request id {record.request_id!r}"
    return words
