"""`eventstore prove`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from eventstore.answers import ConsistencyAnswer, InclusionAnswer
from eventstore.cli.commands import command, output_options
from eventstore.cli.entities import spoken
from eventstore.cli.paths import PathName, file_option, text_of
from eventstore.cli.progress import progress_bar
from eventstore.cli.results import Output, Paragraph
from eventstore.cli.stores import opened_store
from eventstore.plain_values import shown_struct
from eventstore.wording import counted

if TYPE_CHECKING:
    from eventstore.audit import VerifierKey


@command(
    "prove",
    examples=(
        "eventstore prove my-store 1234 --checkpoint new.checkpoint --key ana.pub > record.proof",
        "eventstore prove my-store --since old --checkpoint new.checkpoint --key ana.pub > proof",
        "eventstore prove --check record.proof --key ana.pub",
    ),
)
@click.argument("directory", metavar="[STORE]", required=False, type=PathName())
@click.argument("position", metavar="[POSITION]", required=False, type=int)
@file_option("--checkpoint", "checkpoint_file", "The signed checkpoint to prove against.")
@file_option(
    "--since", "older_file", "Prove that nothing before this older checkpoint was changed."
)
@file_option("--check", "proof_file", "Check a proof instead; it needs no store.")
@file_option("--key", "key_file", "The verifier key of the checkpoints' signer.", required=True)
@output_options
def prove_command(
    directory: Path | None,
    position: int | None,
    checkpoint_file: Path | None,
    older_file: Path | None,
    proof_file: Path | None,
    key_file: Path,
    output: Output,
) -> None:
    """Print a proof that can be checked without the store, or check one.

    Of the record at POSITION: that it is part of what the checkpoint states. With --since: that the
    checkpoint states all that the older one did. A proof is JSON.
    """
    from eventstore.audit import Checkpoint, VerifierKey

    key = VerifierKey.parse(text_of(key_file))
    if proof_file is not None:
        if (directory, position, checkpoint_file, older_file) != (None, None, None, None):
            raise click.UsageError("--check takes the key alone")
        _check(text_of(proof_file), key, output)
        return
    if directory is None or checkpoint_file is None or (position is None) == (older_file is None):
        raise click.UsageError("say STORE, --checkpoint, and either POSITION or --since")
    if output.form == "csv":
        raise click.UsageError("a proof is JSON: leave --csv out")
    checkpoint = Checkpoint.parse(text_of(checkpoint_file), key)
    with opened_store(directory) as store, progress_bar("Hashing") as progress:
        if older_file is not None:
            older = Checkpoint.parse(text_of(older_file), key)
            proof = store.prove_consistency(older, checkpoint, progress).to_json()
        else:
            assert position is not None
            proof = store.prove(position, checkpoint, progress).to_json()
    output.text(proof, is_json=True)


def _check(text: str, key: VerifierKey, output: Output) -> None:
    from eventstore.audit import ConsistencyProof, InclusionProof

    if '"older":' in text[:80]:
        found = ConsistencyProof.check(text, key)
        output.said(
            f"The {counted(found.newer.size, 'record')} that {key.name} signed on "
            f"{output.moment(found.newer.signed_at)} begin with the {found.older.size} signed on "
            f"{output.moment(found.older.signed_at)}.",
            ConsistencyAnswer(
                signer=key.name,
                older_size=found.older.size,
                older_signed_at=found.older.signed_at,
                newer_size=found.newer.size,
                newer_signed_at=found.newer.signed_at,
            ),
        )
        return
    proved = InclusionProof.check(text, key)
    record, checkpoint = proved.record, proved.checkpoint
    if output.form != "text":
        answer = InclusionAnswer(
            signer=key.name,
            signed_at=checkpoint.signed_at,
            position=record.position,
            kind=record.kind,
            entity_id=record.entity_id,
            actor=record.actor,
            content=proved.message,
        )
        output.said("", answer)
        return
    from eventstore.history.fields import plain_fields

    actor = "" if record.actor is None else f", by {record.actor}"
    content = (
        ["its content was erased"]
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
                f"{record.entity_id}{actor}) is part of what {key.name} signed on "
                f"{output.moment(checkpoint.signed_at)}:",
                content,
            )
        ]
    )
