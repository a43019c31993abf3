"""Whom a command trusts: the key of a signer, or a policy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eventstore.cli.paths import file_option, naming, text_of
from eventstore.log.os_errors import translating

if TYPE_CHECKING:
    from eventstore.audit import Checkpoint, KeyRotation, Policy, VerifierKey
    from eventstore.audit.checkpoint import Trust

policy_option = file_option(
    "--policy",
    "policy_file",
    "A policy: the signers' keys, and which witnesses must have cosigned.",
)


rotation_option = file_option(
    "--rotation",
    "rotation_files",
    "Where the signing key was rotated: what `eventstore rotate` wrote; each one, in any order.",
    multiple=True,
)


def trust_options(run: Callable[..., None]) -> Callable[..., None]:
    """Options that reach the command as the parameters of `trust_of`."""
    key = file_option("--key", "key_file", "The verifier key of the checkpoints' signer.")
    with_options: Callable[..., None] = key(policy_option(rotation_option(run)))
    return with_options


def trust_of(
    key_file: Path | None, policy_file: Path | None, rotation_files: tuple[Path, ...] = ()
) -> Trust:
    """What the options name. Raises click.UsageError when they name nobody, or two."""
    return rotated(_trusted(key_file, policy_file), rotation_files)


def rotated(trust: Trust, rotation_files: tuple[Path, ...]) -> Trust:
    """The same where signing keys were rotated."""
    if not rotation_files:
        return trust
    from eventstore.audit import with_rotations

    return with_rotations(trust, rotations_of(rotation_files))


def rotations_of(rotation_files: tuple[Path, ...]) -> list[KeyRotation]:
    """The key rotations in files, their signatures checked."""
    from eventstore.audit import KeyRotation

    rotations = []
    for file in rotation_files:
        text = text_of(file)
        with naming(file):
            rotations.append(KeyRotation.parse(text))
    return rotations


def _trusted(key_file: Path | None, policy_file: Path | None) -> Trust:
    if policy_file is None:
        if key_file is None:
            raise click.UsageError("say --key, the verifier key of who signed, or --policy")
        return _verifier_key(key_file)
    policy = policy_of(policy_file)
    if key_file is None:
        if not policy.logs:
            raise click.UsageError("the policy has no log line: say --key, too")
        return policy
    if policy.logs:
        raise click.UsageError("the policy has a log line: leave --key out")
    return policy.of_log(_verifier_key(key_file))


def _verifier_key(file: Path) -> VerifierKey:
    from eventstore.audit import VerifierKey

    text = text_of(file)
    with naming(file):
        return VerifierKey.parse(text)


def policy_of(file: Path) -> Policy:
    """The policy in a file, in which names and comments may be in any encoding."""
    from eventstore.audit import Policy

    with translating("reading", file):
        content = file.read_bytes()
    with naming(file):
        return Policy.parse(content.decode("utf-8", "surrogateescape"))


def checkpoint_of(file: Path, trust: Trust) -> Checkpoint:
    """The checkpoint in a file, once its signatures are checked."""
    from eventstore.audit import Checkpoint

    text = text_of(file)
    with naming(file):
        return Checkpoint.parse(text, trust)


def cosigned_words(checkpoint: Checkpoint) -> str:
    """Which witnesses that a policy names have cosigned a checkpoint, as the end of a sentence."""
    if not checkpoint.witnesses:
        return ""
    return f", cosigned by {' and '.join(checkpoint.witnesses)}, as the policy demands"
