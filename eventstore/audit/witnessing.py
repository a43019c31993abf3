"""When a witness cosigns a checkpoint, and how the cosignatures of several come together.

A witness remembers the last checkpoint of a store that it has cosigned. It cosigns another one only
if that begins with it, so no two histories of one store have the cosignatures of one witness.
"""

from __future__ import annotations

from collections.abc import Iterable

from eventstore.audit.checkpoint import Checkpoint, Trust
from eventstore.audit.cosignature import CosigningKey
from eventstore.audit.merkle_proofs import is_consistent
from eventstore.audit.policy import Policy
from eventstore.audit.proof_text import CONSISTENCY_WORD, ConsistencyText
from eventstore.audit.signed_note import Note, parsed_signatures, signature_line
from eventstore.errors import DataLossError, FailedPreconditionError, InvalidArgumentError
from eventstore.times import now_in_microseconds
from eventstore.wording import counted


def witnessed(request: str, trust: Trust, key: CosigningKey, last: Checkpoint | None) -> Checkpoint:
    """The checkpoint of a request, cosigned; it has to be kept, and to be `last` the next time.

    A request is a consistency proof that starts from `last`, or a checkpoint alone where nothing
    was cosigned yet or it states what `last` does.

    Raises InvalidArgumentError when it is neither or its checkpoint does not hold by itself,
    FailedPreconditionError when it is older than `last` or starts from something else,
    DataLossError when it states another history.
    """
    older, path, text = _parts(request, last)
    checkpoint = Checkpoint.parse(text, trust)
    if last is None:
        if older or path:
            raise FailedPreconditionError(
                "nothing of this store was cosigned before: give the checkpoint alone, once it is "
                "known to be the store's"
            )
    else:
        _refuse_other_history(older, path, checkpoint, last)
    return Checkpoint.parse(key.cosigned(text, now_in_microseconds() // 10**6), trust)


def _parts(request: str, last: Checkpoint | None) -> tuple[int, tuple[bytes, ...], str]:
    if not request.startswith(f"{CONSISTENCY_WORD} "):
        return (0 if last is None else last.size), (), request
    parsed = ConsistencyText.parse(request)
    return parsed.older, parsed.path, parsed.checkpoint


def _refuse_other_history(
    older: int, path: tuple[bytes, ...], checkpoint: Checkpoint, last: Checkpoint
) -> None:
    if checkpoint.store_id != last.store_id:
        raise InvalidArgumentError(
            f"the checkpoint is of store {checkpoint.store_id}, the last one that was cosigned of "
            f"{last.store_id}: keep them in files of their own"
        )
    if (checkpoint.size, checkpoint.root) == (last.size, last.root):
        return
    if older != last.size:
        raise FailedPreconditionError(
            f"the proof starts from {counted(older, 'record')}, the last checkpoint that was "
            f"cosigned states {last.size}: prove it since that one"
        )
    if checkpoint.size < last.size:
        raise FailedPreconditionError(
            f"not cosigned: the checkpoint states {counted(checkpoint.size, 'record')}, the last "
            f"one that was cosigned {last.size}; it is older, which a witness never goes back to"
        )
    if checkpoint.size > last.size and not path:
        raise FailedPreconditionError(
            f"{counted(checkpoint.size, 'record')} need a proof that they begin with the "
            f"{last.size} that were cosigned last: give that instead of the checkpoint"
        )
    if not is_consistent(last.size, checkpoint.size, path, last.root, checkpoint.root):
        # A path that was changed shows nothing; two roots of one size need no path.
        unless = ", unless the proof was changed: have it made anew" if path else ""
        raise DataLossError(
            f"not cosigned: the history of {counted(checkpoint.size, 'record')} does not begin "
            f"with that of {last.size}, which was cosigned before; keep both checkpoints: "
            f"together they show that {checkpoint.signer} signed two histories{unless}"
        )


def with_cosignatures(checkpoint: str, others: Iterable[str], policy: Policy) -> str:
    """A checkpoint with the cosignatures of a policy's witnesses that other texts have of it.

    Each of these is the same checkpoint as a witness has cosigned it, or its answer: the lines
    alone. What others have signed is left out, and what is there already.

    Raises InvalidArgumentError for a text that has none, or a witness's of another checkpoint.
    """
    gathered = checkpoint
    for other in others:
        is_lines = other.startswith("\u2014 ")
        signatures = parsed_signatures(other) if is_lines else Note.parse(other).signatures
        base = Note.parse(gathered)
        offered = Note(base.text, signatures)
        names = policy.cosigners(offered)
        if not names:
            raise InvalidArgumentError("there is no cosignature by a witness that the policy names")
        for name in names.keys() - policy.cosigners(base).keys():
            key = policy.witnesses[name]
            for signature in offered.signatures_by(key.name, key.key_id)[-1:]:
                gathered += signature_line(key.name, key.key_id, signature)
    return gathered
