"""`eventstore key` and `eventstore checkpoint`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from eventstore.answers import CheckpointAnswer, KeyAnswer
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
from eventstore.cli.trust import checkpoint_of
from eventstore.errors import AlreadyExistsError
from eventstore.log.os_errors import translated


@command(
    "key",
    examples=(
        "eventstore key ana@example.com ana.key > ana.pub",
        "eventstore key north.example north.key --witness > north.pub",
    ),
)
@click.argument("name")
@click.argument("file", type=PathName())
@click.option("--witness", is_flag=True, help="A key that cosigns what others have signed.")
@output_options_without("full", "local")
def key_command(name: str, file: Path, witness: bool, output: Output) -> None:
    """Make a key that signs checkpoints as NAME, and print what others verify with.

    The private key goes into FILE, readable by its owner alone. Keep it away from the store.
    """
    from eventstore.audit import CosigningKey, SigningKey

    output.check()
    refuse_inside_of_store(file)
    key = CosigningKey.generate(name) if witness else SigningKey.generate(name)
    text = key.text()
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w") as written:
            written.write(text + "\n")
    except FileExistsError:
        raise AlreadyExistsError(f"{file} exists: keys are never overwritten") from None
    except OSError as error:
        raise translated(error, "writing", file) from None
    public = str(key.verifier_key)
    output.text_or(public + "\n", KeyAnswer(name, public, str(file)))


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
    "The last checkpoint that this key signed: nothing is signed unless it still holds.",
)
@as_of_option
@output_options_without("full")
def checkpoint_command(
    directory: Path,
    key_file: Path,
    previous_file: Path | None,
    as_of: Moment | None,
    output: Output,
) -> None:
    """Print a signed statement of all history: store, size, root, time and signer.

    It is computed from all records. Keep it outside of the store: verifying with it finds even that
    all of history was rewritten.
    """
    from eventstore.audit import SigningKey

    key_text = text_of(key_file)
    with naming(key_file):
        key = SigningKey.parse(key_text)
    previous = None
    if previous_file is not None:
        previous = checkpoint_of(previous_file, key.verifier_key)
    with opened_store(directory) as opened, progress_bar("Hashing") as progress:
        store = store_as_of(opened, as_of, output)
        signed = store.checkpoint(key, previous=previous, progress=progress)
    answer = CheckpointAnswer(signed.signer, signed.size, signed.signed_at, signed.text)
    output.text_or(signed.text, answer)
