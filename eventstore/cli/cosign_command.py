"""`eventstore cosign`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from eventstore.answers import CosignedAnswer
from eventstore.cli.commands import command, output_options_without
from eventstore.cli.paths import PathName, file_option, naming, text_of
from eventstore.cli.results import Output, note, refuse_inside_of_store, write_durably
from eventstore.cli.trust import (
    checkpoint_of,
    policy_of,
    policy_option,
    rotation_option,
    trust_of,
)
from eventstore.log.file_lock import alone_in

if TYPE_CHECKING:
    from eventstore.audit.checkpoint import Trust


@command(
    "cosign",
    examples=(
        "eventstore key north.example north.key --witness > north.pub",
        "eventstore cosign new.checkpoint --by north.key --key ana.pub --last last > north",
        "eventstore cosign new.checkpoint --add north --policy policy.txt > cosigned.checkpoint",
        "eventstore verify my-store --checkpoint cosigned.checkpoint --policy policy.txt",
    ),
)
@click.argument("file", type=PathName(exists=True, dir_okay=False))
@file_option(
    "--by",
    "witness_file",
    "The private key of the witness, as `eventstore key --witness` makes it.",
)
@click.option(
    "--last",
    "last_file",
    metavar="FILE",
    type=PathName(dir_okay=False),
    help="Where the witness keeps the last checkpoint of this store that it has cosigned.",
)
@file_option("--key", "key_file", "The verifier key of the checkpoint's signer.")
@file_option("--add", "added_files", "What a witness has cosigned or answered.", multiple=True)
@policy_option
@rotation_option
@output_options_without("full", "local")
def cosign_command(
    file: Path,
    witness_file: Path | None,
    last_file: Path | None,
    key_file: Path | None,
    added_files: tuple[Path, ...],
    policy_file: Path | None,
    rotation_files: tuple[Path, ...],
    output: Output,
) -> None:
    """Cosign a checkpoint as a witness, or add what witnesses have cosigned.

    With --by, FILE is a checkpoint, or a proof of `eventstore prove --since` that starts from the
    last one that was cosigned: a witness cosigns nothing that does not begin with that. With --add,
    the cosignatures of a policy's witnesses are put together. The result is the checkpoint.
    """
    output.check()
    if (witness_file is None) == (not added_files):
        raise click.UsageError("say either --by, to cosign, or --add")
    if witness_file is not None:
        if last_file is None or policy_file is not None or key_file is None:
            raise click.UsageError("--by needs --key and --last, and takes no --policy")
        _cosign(file, witness_file, last_file, trust_of(key_file, None, rotation_files), output)
        return
    if last_file is not None or key_file is not None or rotation_files or policy_file is None:
        raise click.UsageError("--add needs --policy, and takes no --key, --rotation and --last")
    _add(file, added_files, policy_file, output)


def _cosign(file: Path, witness_file: Path, last_file: Path, trust: Trust, output: Output) -> None:
    from eventstore.audit import CosigningKey
    from eventstore.audit.witnessing import witnessed

    key_text = text_of(witness_file)
    with naming(witness_file):
        key = CosigningKey.parse(key_text)
    refuse_inside_of_store(last_file)
    with alone_in(last_file.absolute().parent, "cosigning in"):
        last = checkpoint_of(last_file, trust) if last_file.exists() else None
        request = text_of(file)
        with naming(file):
            cosigned = witnessed(request, trust, key, last)
        # Kept before it is shown: what was shown once must never be forgotten.
        write_durably(last_file, cosigned.text)
    if last is None:
        note("nothing of this store was cosigned before: its history up to here is believed")
    output.text_or(cosigned.text, CosignedAnswer([key.name], None, cosigned.text))


def _add(file: Path, added_files: tuple[Path, ...], policy_file: Path, output: Output) -> None:
    from eventstore.audit.signed_note import Note
    from eventstore.audit.witnessing import with_cosignatures

    policy = policy_of(policy_file)
    text = text_of(file)
    with naming(file):
        policy.cosigners(Note.parse(text))
    for added_file in added_files:
        added = text_of(added_file)
        with naming(added_file):
            text = with_cosignatures(text, [added], policy)
    names = list(policy.cosigners(Note.parse(text)))
    is_met = policy.is_met(set(names))
    if not is_met:
        note(f"the policy demands more cosignatures than those of {', '.join(names)}")
    output.text_or(text, CosignedAnswer(names, is_met, text))
