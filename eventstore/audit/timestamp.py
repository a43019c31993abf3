"""When a checkpoint was there, as an authority other than its signer says: RFC 3161.

The authority signs the hash of the checkpoint as it was signed, without cosignatures, which may
come later. It shows that the checkpoint was there by then, even once its signing key is known to
others. This needs the package rfc3161-client.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from eventstore.audit.checkpoint import Checkpoint, Trust
from eventstore.audit.policy import Policy
from eventstore.audit.signed_note import Note, signature_line
from eventstore.audit.timestamp_answer import is_bare_token, with_ordered_certificates
from eventstore.audit.web_answers import answer_of, checked_address, web_opener
from eventstore.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.x509 import Certificate

_TOKEN_BYTES_MAX: Final = 2**20
_ACCEPTS_ANY_AUTHORITY: Final = re.compile(r"0\..*|1\.0\.[0-8]")
"""The versions of rfc3161-client that take an authority's answer whatever the roots are."""


@dataclass(frozen=True, slots=True)
class Timestamp:
    """That a checkpoint was there at a time, by an authority. `token` is its whole answer."""

    checkpoint: Checkpoint
    at: datetime
    serial: int
    token: bytes

    @classmethod
    def check(cls, token: bytes, text: str, trust: Trust, roots: bytes) -> Timestamp:
        """Check an authority's answer against the certificates (PEM) that it leads to.

        Raises InvalidArgumentError when the checkpoint does not hold by itself, or the answer is
        not of this checkpoint, not granted, or not signed by an authority with these roots.
        """
        checkpoint = Checkpoint.parse(text, trust)
        return _checked(token, checkpoint, signed_part(text, trust), roots, None)


def requested(authority: str, text: str, trust: Trust, roots: bytes) -> Timestamp:
    """Ask an authority, by its address, for a timestamp of a checkpoint, and check it.

    Raises what `Timestamp.check` does, and UnavailableError when the authority does not answer.
    """
    client = _client()
    checkpoint = Checkpoint.parse(text, trust)
    part = signed_part(text, trust)
    builder = client.TimestampRequestBuilder(data=part)
    request = builder.hash_algorithm(client.HashAlgorithm.SHA256).build()
    return _checked(_answer(authority, request.as_bytes()), checkpoint, part, roots, request.nonce)


def signed_part(text: str, trust: Trust) -> bytes:
    """What is timestamped: the checkpoint with its signer's signature alone, as it was signed."""
    note = Note.parse(text)
    key = trust.opened(text)[1] if isinstance(trust, Policy) else trust
    signature = note.signatures_by(key.name, key.key_id)[0]
    return f"{note.text}\n{signature_line(key.name, key.key_id, signature)}".encode()


def _checked(
    token: bytes, checkpoint: Checkpoint, part: bytes, roots: bytes, nonce: int | None
) -> Timestamp:
    client = _client()
    builder = client.VerifierBuilder(roots=list(certificates_of(roots)), nonce=nonce)
    try:
        answer = client.decode_timestamp_response(with_ordered_certificates(token))
    except (ValueError, TypeError):
        raise InvalidArgumentError(f"not a timestamp: {_what_it_is(token)}") from None
    try:
        if answer.status != client.PKIStatus.GRANTED:
            words = ", ".join(answer.status_string) or f"status {answer.status}"
            raise InvalidArgumentError(f"the authority gave no timestamp: {words}")
        if not answer.signed_data.certificates:
            raise InvalidArgumentError(
                "not a timestamp that can be checked: the answer has no certificate of who signed "
                "it; ask for one with its certificates (`openssl ts -query -cert`)"
            )
        builder.build().verify_message(answer, part)
        info = answer.tst_info
        return Timestamp(checkpoint, info.gen_time, info.serial_number, token)
    except (ValueError, TypeError, client.VerificationError) as error:
        raise InvalidArgumentError(
            "not a timestamp of this checkpoint by an authority with these certificates: "
            f"{_in_words(str(error))}"
        ) from None


def _what_it_is(token: bytes) -> str:
    if is_bare_token(token):
        return "it is a token alone; the authority's whole answer is needed"
    return (
        "it is no answer of an authority in DER (RFC 3161), as `openssl ts -reply` writes it, or "
        "not all of one"
    )


_SAID: Final = (
    ("Mismatch between messages", "it is of another text"),
    ("Nonce mismatch", "it answers another request"),
    ("certificate has expired", "a certificate had expired when it was made"),
    ("certificate verify error", "the certificates in it do not lead to one of the authority's"),
    ("signature", "what it says is not what was signed"),
    ("digest", "what it says is not what was signed"),
    ("EKU", "who signed it may not sign timestamps"),
)


def _in_words(error: str) -> str:
    """What rfc3161-client says, or OpenSSL by it."""
    reasons = re.findall(r'(?:reason: |Verify error: )"?([^"]+)"', error)
    detail = ", ".join(reasons) or error
    words = next((words for part, words in _SAID if part in detail), "it cannot be verified")
    return f"{words} ({detail})"


def certificates_of(roots: bytes) -> Sequence[Certificate]:
    """An authority's certificates. Raises InvalidArgumentError for what is not PEM."""
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return load_pem_x509_certificates(roots)
    except ValueError as error:
        raise InvalidArgumentError(f"the authority's certificates are not PEM: {error}") from None


def _answer(authority: str, request: bytes) -> bytes:
    address = checked_address(authority, has_query=True)
    headers = {"Content-Type": "application/timestamp-query"}
    token = answer_of(web_opener(), address, _TOKEN_BYTES_MAX, request, headers)
    if token is None:
        raise UnavailableError(f"{authority} answers that nothing is there: check the address")
    if len(token) > _TOKEN_BYTES_MAX:
        raise InvalidArgumentError(f"{authority} answers more than {_TOKEN_BYTES_MAX:,} bytes")
    return token


def _client() -> Any:
    from importlib.metadata import version

    try:
        import rfc3161_client

        installed = version("rfc3161-client")
    except ImportError as error:
        raise _lacking("rfc3161-client") from error
    if _ACCEPTS_ANY_AUTHORITY.fullmatch(installed):
        raise _lacking("rfc3161-client 1.0.9 or later")
    return rfc3161_client


def _lacking(what: str) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"timestamps need the package {what}: pip install 'mlmd-eventstore[timestamp]'"
    )
