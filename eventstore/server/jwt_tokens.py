"""JSON Web Tokens of one issuer: whether one is good, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from msgspec import Struct

from eventstore.errors import FailedPreconditionError, InvalidArgumentError, UnauthenticatedError
from eventstore.server.jwks import Keys, keys_at

Claims: TypeAlias = Mapping[str, Any]

_ASYMMETRIC: Final = frozenset(
    {
        *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
        *("ES256", "ES384", "ES512", "EdDSA"),
    }
)
"""Not those that sign with the same key that checks: a public key could be taken for one."""

_REQUIRED: Final = ("exp", "iss", "aud")


class JwtRules(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose tokens are taken, for whom they have to be, and which claim is the actor.

    `jwks` is an https address, or a file, whose path is taken from the folder of the rules.
    """

    issuer: str
    audience: str
    jwks: str
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    actor: str = "sub"
    leeway_seconds: int = 60


class JwtCheck:
    """Checks tokens by the rules. Safe to use from several threads."""

    def __init__(self, rules: JwtRules, folder: Path) -> None:
        """Raises InvalidArgumentError, and FailedPreconditionError where PyJWT is missing."""
        try:
            from jwt.algorithms import has_crypto
        except ImportError:
            has_crypto = False
        if not has_crypto:
            raise FailedPreconditionError(
                "[jwt] needs packages that are missing: pip install 'mlmd-eventstore[jwt]'"
            )
        if not rules.algorithms or not _ASYMMETRIC.issuperset(rules.algorithms):
            raise InvalidArgumentError(
                f"[jwt] algorithms are {', '.join(rules.algorithms)}: use some of "
                f"{', '.join(sorted(_ASYMMETRIC))}"
            )
        if not rules.issuer or not rules.audience or not 0 <= rules.leeway_seconds <= 600:
            raise InvalidArgumentError(
                "[jwt] needs an issuer, an audience, and leeway_seconds from 0 to 600"
            )
        self._rules = rules
        self._keys: Keys = keys_at(rules.jwks, folder)

    def claims_of(self, token: str) -> tuple[str, Claims]:
        """The actor, and all that a token claims.

        Raises UnauthenticatedError for one that is not good, UnavailableError when the keys of the
        issuer cannot be had.
        """
        import jwt

        rules = self._rules
        key, algorithm = self._key(token)
        try:
            claims: Claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=rules.audience,
                issuer=rules.issuer,
                leeway=rules.leeway_seconds,
                options={"require": [*_REQUIRED]},
            )
        except jwt.ExpiredSignatureError:
            raise UnauthenticatedError("this token has expired: get a new one") from None
        except jwt.InvalidSignatureError:
            raise UnauthenticatedError("this token was not signed by its issuer") from None
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise UnauthenticatedError(f"this token is not good here: {error}") from None
        actor = claims.get(rules.actor)
        if not isinstance(actor, str) or not actor:
            raise UnauthenticatedError(f"this token has no text as its claim {rules.actor!r}")
        return actor, claims

    def _key(self, token: str) -> tuple[Any, str]:
        """The issuer's key that a token names, and the algorithm."""
        import jwt

        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, TypeError):
            raise UnauthenticatedError("this is no token that is known here, and no JWT") from None
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in self._rules.algorithms or "crit" in header:
            raise UnauthenticatedError("this token is signed in a way that is not taken here")
        key = self._keys.find(key_id if isinstance(key_id, str) else None, algorithm)
        if key is None:
            raise UnauthenticatedError("this token names no key that its issuer has")
        return key, algorithm


def has_claim(claims: Claims, name: str, value: str) -> bool:
    """Whether a claim is a text, or has it in a list. `a.b` may be `b` within `a`."""
    found = claims.get(name)
    if found is None and "." in name:
        outer, _, inner = name.partition(".")
        within = claims.get(outer)
        return isinstance(within, Mapping) and has_claim(within, inner, value)
    return found == value or (isinstance(found, list) and value in found)
