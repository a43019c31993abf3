"""Proof that history was not changed: signed checkpoints, and what can be shown with them."""

from eventstore.audit.checkpoint import Checkpoint, signed_checkpoint
from eventstore.audit.cosignature import CosigningKey, WitnessKey
from eventstore.audit.key_rotation import KeyRotation
from eventstore.audit.policy import Policy, with_rotations
from eventstore.audit.proofs import (
    ConsistencyProof,
    InclusionProof,
    prove_consistency,
    prove_inclusion,
)
from eventstore.audit.signed_note import SigningKey, VerifierKey

__all__ = [
    "Checkpoint",
    "ConsistencyProof",
    "CosigningKey",
    "InclusionProof",
    "KeyRotation",
    "Policy",
    "SigningKey",
    "VerifierKey",
    "WitnessKey",
    "prove_consistency",
    "prove_inclusion",
    "signed_checkpoint",
    "with_rotations",
]
