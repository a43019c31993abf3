"""`eventstore key`, `eventstore rotate` and `eventstore checkpoint`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eventstore.answers import CheckpointAnswer, KeyAnswer, RotationAnswer
from eventstore.cli.commands import (
    as_of_option,
    command,
    output_options_without,
    store_argument,
)
from eventstore.cli.moments import Moment, store_as_of
from eventstore.cli.paths import PathName, file_option, naming, text_of
from eventstore.cli.progress import progress_bar
from eventstore.cli.results import Output, refuse_inside_of_store
from eventstore.cli.stores import opened_store
from eventstore.cli.trust import checkpoint_of, rotated, rotation_option
from eventstore.errors import AlreadyExistsError, InvalidArgumentError
from eventstore.log.os_errors import translated
from eventstore.log.places import Place

if TYPE_CHECKING:
    from eventstore.audit import CosigningKey, SigningKey


@command(
    "key",
    examples=(
        "eventstore key ana@example.com ana.key > ana.pub",
        "eventstore key north.example north.key --witness > north.pub",
        "eventstore key --public ana.key > ana.pub",
    ),
)
@click.argument("name", metavar="[NAME]", required=False)
@click.argument("file", metavar="[FILE]", required=False, type=PathName())
@click.option("--witness", is_flag=True, help="A key that cosigns what others have signed.")
@file_option("--public", "private_file", "Print what others verify with of the key in FILE.")
@output_options_without("full", "local")
def key_command(
    name: str | None,
    file: Path | None,
    witness: bool,
    private_file: Path | None,
    output: Output,
) -> None:
    """Make a key that signs checkpoints as NAME, and print what others verify with.

    The private key goes into FILE, readable by its owner alone. Keep it away from the store. With
    --public, no key is made, and FILE has one of either kind.
    """
    from eventstore.audit import CosigningKey, SigningKey

    if private_file is not None:
        if name is not None or witness:
            raise click.UsageError("--public takes a file, and nothing else")
        text = text_of(private_file)
        with naming(private_file):
            held = _parsed_key(text)
        public = str(held.verifier_key)
        output.text_or(public + "\n", KeyAnswer(held.name, public, str(private_file)))
        return
    if name is None or file is None:
        raise click.UsageError("say NAME and FILE, or --public and the file of a private key")
    output.check()
    refuse_inside_of_store(file)
    key = CosigningKey.generate(name) if witness else SigningKey.generate(name)
    text = key.text()
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w") as written:
            written.write(text + "\n")
    except FileExistsError:
        raise AlreadyExistsError(
            f"{file} exists: keys are never overwritten; `eventstore key --public {file}` prints "
            "what others verify with"
        ) from None
    except OSError as error:
        raise translated(error, "writing", file) from None
    public = str(key.verifier_key)
    output.text_or(public + "\n", KeyAnswer(name, public, str(file)))


def _parsed_key(text: str) -> SigningKey | CosigningKey:
    """A private key of either kind."""
    from eventstore.audit import CosigningKey, SigningKey

    try:
        return CosigningKey.parse(text)
    except InvalidArgumentError:
        return SigningKey.parse(text)


@command(
    "rotate",
    examples=(
        "eventstore key ana@example.com ana-2027.key > ana-2027.pub",
        "eventstore rotate last.checkpoint --key ana.key --to ana-2027.key > ana-2027.rotation",
        "eventstore verify my-store --checkpoint new.checkpoint --key ana.pub"
        " --rotation ana-2027.rotation",
    ),
)
@click.argument("file", type=PathName(exists=True, dir_okay=False))
@file_option("--key", "key_file", "The private key that has signed so far.", required=True)
@file_option("--to", "new_key_file", "The private key that signs from now on.", required=True)
@output_options_without("full", "local")
def rotate_command(file: Path, key_file: Path, new_key_file: Path, output: Output) -> None:
    """Print a statement, signed by both keys, that a new key signs in place of an old one.

    FILE is the last checkpoint of the store that the old key has signed: what it signs of more
    records is refused by whoever has the statement. Give it to all who check, and delete the old
    key.
    """
    from eventstore.audit import KeyRotation

    old, new = _signing_key(key_file), _signing_key(new_key_file)
    last = checkpoint_of(file, old.verifier_key)
    rotation = KeyRotation.signed(last, old, new)
    answer = RotationAnswer(
        str(rotation.old),
        str(rotation.new),
        rotation.rotated_at,
        str(last.store_id),
        last.size,
        rotation.text,
    )
    output.text_or(rotation.text, answer)


@command(
    "checkpoint",
    examples=(
        "eventstore key ana@example.com ana.key > ana.pub",
        "eventstore checkpoint my-store --key ana.key > 2026-11-20.checkpoint",
        "eventstore checkpoint my-store --key ana.key --previous 2026-11-20.checkpoint > next",
        "eventstore verify my-store --checkpoint 2026-11-20.checkpoint --key ana.pub",
    ),
)
@store_argument
@file_option(
    "--key", "key_file", "The file of a private key, as `eventstore key` makes it.", required=True
)
@file_option(
    "--previous",
    "previous_file",
    "The last checkpoint that was signed: nothing is signed unless it still holds.",
)
@rotation_option
@as_of_option
@output_options_without("full")
def checkpoint_command(
    place: Place,
    key_file: Path,
    previous_file: Path | None,
    rotation_files: tuple[Path, ...],
    as_of: Moment | None,
    output: Output,
) -> None:
    """Print a signed statement of all history: store, size, root, time and signer.

    It is computed from all records. Keep it outside of the store: verifying with it finds even that
    all of history was rewritten.
    """
    from eventstore.audit import Checkpoint

    key = _signing_key(key_file)
    trust = rotated(key.verifier_key, rotation_files)
    previous = None
    if previous_file is not None:
        previous = checkpoint_of(previous_file, trust)
    with opened_store(place) as opened, progress_bar("Hashing") as progress:
        store = store_as_of(opened, as_of, output)
        signed = store.checkpoint(key, previous=previous, progress=progress)
    # By the rotations, a key that was replaced signs no more.
    Checkpoint.parse(signed.text, trust)
    answer = CheckpointAnswer(signed.signer, signed.size, signed.signed_at, signed.text)
    output.text_or(signed.text, answer)


def _signing_key(file: Path) -> SigningKey:
    from eventstore.audit import SigningKey

    text = text_of(file)
    with naming(file):
        return SigningKey.parse(text)
