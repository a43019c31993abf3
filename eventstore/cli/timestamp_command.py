"""`eventstore timestamp`."""

from __future__ import annotations

from pathlib import Path

import click

from eventstore.answers import TimestampAnswer
from eventstore.cli.commands import command, output_options_without
from eventstore.cli.paths import PathName, checked, file_option, naming
from eventstore.cli.results import Output, written_file
from eventstore.cli.trust import checkpoint_of, trust_of, trust_options
from eventstore.errors import AlreadyExistsError
from eventstore.log.os_errors import translating


@command(
    "timestamp",
    examples=(
        "eventstore timestamp new.checkpoint new.tsr --authority https://tsa.example.com/tsr"
        " --root tsa.pem --key ana.pub",
        "eventstore timestamp new.checkpoint new.tsr --root tsa.pem --key ana.pub",
    ),
)
@click.argument("file", type=PathName(exists=True, dir_okay=False))
@click.argument("token", type=PathName(dir_okay=False))
@click.option("--authority", metavar="URL", help="Ask this authority, and write TOKEN.")
@file_option("--root", "root_file", "The authority's root certificates, in PEM.", required=True)
@trust_options
@output_options_without("full")
def timestamp_command(
    file: Path,
    token: Path,
    authority: str | None,
    root_file: Path,
    key_file: Path | None,
    policy_file: Path | None,
    rotation_files: tuple[Path, ...],
    output: Output,
) -> None:
    """Have an authority say when a checkpoint was there (RFC 3161), or check what it said in TOKEN.

    It is of the checkpoint as it was signed, without cosignatures, which may come later; `openssl
    ts -verify` reads it, too. TOKEN must be new where an authority is asked.
    """
    from eventstore.audit.timestamp import Timestamp, certificates_of, requested

    output.check()
    trust = trust_of(key_file, policy_file, rotation_files)
    with translating("reading", root_file):
        roots = root_file.read_bytes()
    with naming(root_file):
        certificates_of(roots)
    if authority is None:
        with checked():
            text = checkpoint_of(file, trust).text
        with translating("reading", token):
            content = token.read_bytes()
        with checked(), naming(token):
            found = Timestamp.check(content, text, trust, roots)
    else:
        text = checkpoint_of(file, trust).text
        if token.is_file():
            raise AlreadyExistsError(
                f"{token} exists: timestamps are never overwritten, choose another file"
            )
        with written_file(token, force=False) as written:
            found = requested(authority, text, trust, roots)
            written.write(found.token)
    signer = found.checkpoint.signer
    output.said(
        f"The checkpoint that {signer} signed, by its own clock on "
        f"{output.moment(found.checkpoint.signed_at)}, was there on {output.moment(found.at)}.",
        TimestampAnswer(signer, found.checkpoint.signed_at, found.at, str(found.serial)),
    )
