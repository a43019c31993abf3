"""What the errors of object storage mean here."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from eventstore import errors

_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>(\w{1,60})</Code>")
_ODD_KEY: Final = re.compile(r"invalid path: .*?\bPath \"(.{1,1024}?)\"")

_UNSENT: Final = ("kind: Connect", "kind: Builder")
_OF_CREDENTIALS: Final = (
    *("//169.254.", "/latest/api/token", "/latest/meta-data/", "token request", "AssumeRole"),
)
"""What stands in an error that was met on the way to credentials."""

_NO_BUCKET: Final = frozenset(("NoSuchBucket", "ContainerNotFound", "ResourceNotFound"))
_WRONG_CREDENTIALS: Final = frozenset(
    (
        *("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken"),
        *("AuthenticationFailed", "InvalidAuthenticationInfo", "NoAuthenticationInformation"),
        *("TokenRefreshRequired", "InvalidSecurity"),
    )
)
_ELSEWHERE: Final = frozenset(
    ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException")
)
_PASSING: Final = frozenset(("RequestTimeout", "OperationAborted", "ConditionalRequestConflict"))
_CREDENTIALS: Final = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the role of this machine",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or the service account of this machine",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or the identity of this "
    "machine",
}


class Failure(NamedTuple):
    """What an error of the library tells; nothing that is secret.

    `status` is None where nothing was answered. With `is_unsent` the request never left.
    """

    status: int | None
    code: str
    is_unsent: bool
    is_of_credentials: bool
    is_of_scheme: bool
    is_of_region: bool
    odd_key: str
    """The key of an object that the library cannot read."""

    @property
    def is_passing(self) -> bool:
        """Whether the same may succeed later."""
        if self.is_of_credentials or self.is_of_scheme or self.is_of_region or self.odd_key:
            return False
        if self.status is None:
            return True
        return self.status >= 500 or self.status in (408, 429) or self.code in _PASSING

    @property
    def is_missing_bucket(self) -> bool:
        """Whether there is no bucket of that name."""
        return self.code in _NO_BUCKET


def failure_of(error: Exception) -> Failure:
    """Read an error, which has the server's whole answer in its text."""
    text = str(error)
    status, code, odd_key = _STATUS.search(text), _CODE.search(text), _ODD_KEY.search(text)
    return Failure(
        int(status[1]) if status else None,
        code[1] if code else "",
        any(words in text for words in _UNSENT),
        any(words in text.partition("\n")[0] for words in _OF_CREDENTIALS),
        "BadScheme" in text,
        "BareRedirect" in text,
        odd_key[1] if odd_key else "",
    )


def translated(failure: Failure, doing: str, name: str) -> errors.StatusError:
    """The error to raise for a failure that was met while `doing` something (a verb in -ing)."""
    what = f"{doing} {name} failed"
    told = " ".join(filter(None, (str(failure.status or ""), failure.code)))
    told = f" ({told})" if told else ""
    if failure.is_of_scheme:
        return errors.FailedPreconditionError(
            f"{what}: its endpoint is not encrypted: write https://, or say allow_http=true in the "
            "URL"
        )
    if failure.odd_key:
        return errors.FailedPreconditionError(
            f"{what}: there is an object of the key {failure.odd_key!r}, which nothing here has "
            "made, and which cannot be listed: remove it"
        )
    if failure.is_missing_bucket:
        return errors.NotFoundError(f"{what}: there is no such bucket{told}: check its name")
    if failure.is_of_credentials:
        ways = _CREDENTIALS[name.partition(":")[0]]
        return errors.UnauthenticatedError(f"{what}: there are no credentials: set {ways}")
    if failure.code in _WRONG_CREDENTIALS or failure.status == 401:
        return errors.UnauthenticatedError(f"{what}: its credentials are wrong{told}: check them")
    if failure.code in _ELSEWHERE or failure.is_of_region:
        return errors.FailedPreconditionError(
            f"{what}: the bucket is in another region{told}: say region= in the URL"
        )
    if failure.status == 403:
        return errors.PermissionDeniedError(
            f"{what}: its credentials have no right to{told}: have it granted"
        )
    if failure.status is None:
        return errors.UnavailableError(f"{what}: it cannot be reached: check the endpoint")
    if failure.is_passing:
        return errors.UnavailableError(f"{what}: it is out of order{told}")
    return errors.InternalError(f"{what}{told}")
