"""`eventstore key`, `eventstore checkpoint` and `eventstore prove`."""

from __future__ import annotations

import os
from pathlib import Path

import click

import eventstore
from eventstore.audit import Checkpoint, ConsistencyProof, InclusionProof, SigningKey, VerifierKey
from eventstore.cli.moments import as_of_option, store_as_of
from eventstore.cli.output import progress_bar
from eventstore.errors import AlreadyExistsError


@click.command(
    "key",
    epilog="""\b
Examples:
  eventstore key ana@example.com ana.key > ana.pub
""",
)
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
def key_command(name: str, file: Path) -> None:
    """Make a key that signs checkpoints as NAME, and print what others verify with.

    The private key goes into FILE, readable by its owner alone. Keep it away from the store.
    """
    key = SigningKey.generate(name)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise AlreadyExistsError(f"{file} exists: keys are never overwritten") from None
    with open(descriptor, "w") as written:
        written.write(key.text() + "\n")
    click.echo(str(key.verifier_key))


@click.command(
    "checkpoint",
    epilog="""\b
Examples:
  eventstore key ana@example.com ana.key > ana.pub
  eventstore checkpoint my-store --key ana.key > 2026-11-20.checkpoint
  eventstore checkpoint my-store --key ana.key --previous 2026-11-20.checkpoint > new.checkpoint
  eventstore verify my-store --checkpoint 2026-11-20.checkpoint --key ana.pub
""",
)
@click.argument("directory", metavar="STORE", type=click.Path(path_type=Path))
@click.option(
    "--key",
    "key_file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The file of a private key, as `eventstore key` makes it.",
)
@click.option(
    "--previous",
    "previous_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The last checkpoint that this key signed: nothing is signed unless it still holds.",
)
@as_of_option
def command(directory: Path, key_file: Path, previous_file: Path | None, as_of: str | None) -> None:
    """Print a signed statement of all history: store, size, root, time and signer.

    It is computed from all records. Keep it outside of the store: verifying with it finds even that
    all of history was rewritten.
    """
    key = SigningKey.parse(key_file.read_text())
    previous = (
        None
        if previous_file is None
        else Checkpoint.parse(previous_file.read_text(), key.verifier_key)
    )
    with (
        eventstore.open(directory, read_only=True) as opened,
        progress_bar("Hashing") as progress,
    ):
        moment = store_as_of(opened, as_of)
        checkpoint = moment.checkpoint(key, previous=previous, progress=progress)
    click.echo(checkpoint.text, nl=False)


@click.command(
    "prove",
    epilog="""\b
Examples:
  eventstore prove my-store 1234 --checkpoint new.checkpoint --key ana.pub > record.proof
  eventstore prove my-store --since old.checkpoint --checkpoint new.checkpoint --key ana.pub
  eventstore prove --check record.proof --key ana.pub
""",
)
@click.argument("directory", metavar="[STORE]", required=False, type=click.Path(path_type=Path))
@click.argument("position", required=False, type=int)
@click.option("--checkpoint", "checkpoint_file", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--since",
    "older_file",
    type=click.Path(exists=True, path_type=Path),
    help="Prove that nothing before this older checkpoint was changed.",
)
@click.option(
    "--check",
    "proof_file",
    type=click.Path(exists=True, path_type=Path),
    help="Check a proof instead; it needs no store.",
)
@click.option(
    "--key",
    "key_file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The verifier key of the checkpoints' signer.",
)
def prove_command(
    directory: Path | None,
    position: int | None,
    checkpoint_file: Path | None,
    older_file: Path | None,
    proof_file: Path | None,
    key_file: Path,
) -> None:
    """Print a proof that can be checked without the store, or check one.

    Of the record at POSITION: that it is part of what the checkpoint states. With --since: that the
    checkpoint states all that the older one did.
    """
    key = VerifierKey.parse(key_file.read_text())
    if proof_file is not None:
        if (directory, position, checkpoint_file, older_file) != (None, None, None, None):
            raise click.UsageError("--check takes the key alone")
        _check(proof_file.read_text(), key)
        return
    if directory is None or checkpoint_file is None or (position is None) == (older_file is None):
        raise click.UsageError("say STORE, --checkpoint, and either POSITION or --since")
    checkpoint = Checkpoint.parse(checkpoint_file.read_text(), key)
    with (
        eventstore.open(directory, read_only=True) as store,
        progress_bar("Hashing") as progress,
    ):
        if older_file is not None:
            older = Checkpoint.parse(older_file.read_text(), key)
            proof = store.prove_consistency(older, checkpoint, progress).to_json()
        else:
            assert position is not None
            proof = store.prove(position, checkpoint, progress).to_json()
    click.echo(proof, nl=False)


def _check(text: str, key: VerifierKey) -> None:
    if '"older":' in text[:80]:
        found = ConsistencyProof.check(text, key)
        click.echo(
            f"The {found.newer.size} records that {key.name} signed on "
            f"{found.newer.signed_at.isoformat()} begin with the {found.older.size} signed on "
            f"{found.older.signed_at.isoformat()}."
        )
        return
    proved = InclusionProof.check(text, key)
    record, checkpoint = proved.record, proved.checkpoint
    click.echo(
        f"The record at position {record.position} ({record.kind.replace('_', ' ')} "
        f"{record.entity_id}, by {record.actor}) is part of what {key.name} signed on "
        f"{checkpoint.signed_at.isoformat()}:"
    )
    click.echo("its content was erased" if proved.message is None else str(proved.message).rstrip())
