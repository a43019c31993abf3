"""Whom a command trusts: the key of a signer, or a policy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eventstore.cli.paths import file_option, text_of
from eventstore.log.os_errors import translating

if TYPE_CHECKING:
    from eventstore.audit import Policy
    from eventstore.audit.checkpoint import Trust

policy_option = file_option(
    "--policy",
    "policy_file",
    "A policy: the signers' keys, and which witnesses must have cosigned.",
)


def trust_options(run: Callable[..., None]) -> Callable[..., None]:
    """Options that reach the command as `key_file` and `policy_file`, for `trust_of`."""
    key = file_option("--key", "key_file", "The verifier key of the checkpoints' signer.")
    with_options: Callable[..., None] = key(policy_option(run))
    return with_options


def trust_of(key_file: Path | None, policy_file: Path | None) -> Trust:
    """What the options name. Raises click.UsageError when they name nobody, or two."""
    from eventstore.audit import VerifierKey

    if policy_file is None:
        if key_file is None:
            raise click.UsageError("say --key, the verifier key of who signed, or --policy")
        return VerifierKey.parse(text_of(key_file))
    policy = policy_of(policy_file)
    if key_file is None:
        if not policy.logs:
            raise click.UsageError("the policy has no log line: say --key, too")
        return policy
    if policy.logs:
        raise click.UsageError("the policy has a log line: leave --key out")
    return policy.of_log(VerifierKey.parse(text_of(key_file)))


def policy_of(file: Path) -> Policy:
    """The policy in a file, in which names and comments may be in any encoding."""
    from eventstore.audit import Policy

    with translating("reading", file):
        content = file.read_bytes()
    return Policy.parse(content.decode("utf-8", "surrogateescape"))
