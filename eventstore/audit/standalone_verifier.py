#!/usr/bin/env python3
"""Check what a metadata store has proved, without the store and without trusting its code.

This file stands alone: it needs Python 3.9 and its standard library, and pyarrow only to read a
store's own files. Copy it, read it, run it:

  python standalone_verifier.py checkpoint FILE KEY
  python standalone_verifier.py proof FILE KEY
  python standalone_verifier.py consistency FILE OLDER-CHECKPOINT KEY
  python standalone_verifier.py tiles SOURCE [OLDER-CHECKPOINT] KEY
  python standalone_verifier.py records FILE CHECKPOINT KEY
  python standalone_verifier.py store DIRECTORY CHECKPOINT KEY

KEY is a file with the verifier key of the signer, which you have got from the signer, not from the
store; or a policy, which names that key and the witnesses that must have cosigned. SOURCE
is the folder or address (http, https) of published tiles; `records` takes what `eventstore export`
writes, `store` a copy of the store's directory. Of that it checks the records, the tree heads, the
manifest and its hashes, the columns, the checksums of streams, and that nothing else lies there;
not what a Parquet file says of itself beside its rows, nor `log/acknowledged`, which
`eventstore verify` checks. Where the signing key was rotated, give each rotation as
--rotation FILE, in any order.
Exit code 0: it holds. 1: it does not, and the line printed says why. 2: it cannot be checked, since
a file cannot be read, the key is none, pyarrow is not installed, or the arguments are wrong.

What is checked, and where it is laid down:
  signed notes        c2sp.org/signed-note; Ed25519 is RFC 8032
  checkpoints         c2sp.org/tlog-checkpoint, and FORMAT.md, "Checkpoints and proofs"
  cosignatures        c2sp.org/tlog-cosignature, Ed25519; policies are c2sp.org/tlog-policy
  proofs              c2sp.org/tlog-proof, and requests of c2sp.org/tlog-witness
  tiles               c2sp.org/tlog-tiles; the beginning of entries is FORMAT.md, "The proof"
  Merkle tree         RFC 6962, section 2.1; the algorithms are those of RFC 9162, section 2.1
  leaves of the tree  FORMAT.md, "The proof"
  what records say    FORMAT.md, "What relates records" and "Records and commits"
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import json
import math
import os
import pathlib
import re
import struct
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Tuple, Union

Point = Tuple[int, int, int, int]
"""X, Y, Z, T."""
Key = Tuple[str, bytes, bytes]
"""Name, key id, public key."""
Record = Dict[str, Any]


class Rotation(NamedTuple):
    """That the new key signs in place of the old one after the last checkpoint of that."""

    old: Key
    new: Key
    at: str
    last: Record
    """What that checkpoint states."""


class Policy(NamedTuple):
    """What is demanded of a checkpoint: c2sp.org/tlog-policy."""

    logs: List[Key]
    witnesses: Dict[str, Key]
    groups: List[Tuple[str, int, List[str]]]
    """Name, how many are needed, members."""
    quorum: str
    rotations: Tuple[Rotation, ...] = ()


Trust = Union[Key, Policy]


class Refused(Exception):
    """What was to be verified does not hold, or is not what it is said to be."""


class Torn(Refused):
    """The active segment cannot be read to its end: a write that was cut off leaves it so."""


class CannotCheck(Exception):
    """Nothing can be said of what was to be verified."""


# --- Ed25519, RFC 8032, section 5.1: verification alone, so nothing here is secret

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, _P - 2, _P) % _P
_SQRT_M1 = pow(2, (_P - 1) // 4, _P)


def _strict_point(encoded: bytes) -> Point | None:
    """Section 5.1.3: the point, or None; a key whose order divides 8 fits any text, and is none."""
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= _P:
        return None
    x2 = (y * y - 1) * pow(_D * y * y + 1, _P - 2, _P) % _P
    x = pow(x2, (_P + 3) // 8, _P)
    if (x * x - x2) % _P:
        x = x * _SQRT_M1 % _P
    if (x * x - x2) % _P:
        return None
    if x & 1 != sign:
        x = _P - x
    point = (x, y, 1, x * y % _P)
    # A multiple of 8 has X = 0 only as the neutral point.
    return point if _multiply(8, point)[0] else None


def _add(p: Point, q: Point) -> Point:
    """Section 5.1.4."""
    a = (p[1] - p[0]) * (q[1] - q[0]) % _P
    b = (p[1] + p[0]) * (q[1] + q[0]) % _P
    c = 2 * p[3] * q[3] * _D % _P
    d = 2 * p[2] * q[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % _P, g * h % _P, f * g % _P, e * h % _P)


def _multiply(scalar: int, point: Point) -> Point:
    result = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = _add(result, point)
        point = _add(point, point)
        scalar >>= 1
    return result


_BASE_X = 15112221349535400772501151409588531511454012693041857206046113283949847762202
_BASE_Y = 46316835694926478169428394003475163141307993866256225615783033603165251855960
_BASE = (_BASE_X, _BASE_Y, 1, _BASE_X * _BASE_Y % _P)


def ed25519_verifies(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Section 5.1.7, without cofactors, and without what implementations do not agree on."""
    if len(public_key) != 32 or len(signature) != 64:
        return False
    a, r = _strict_point(public_key), _strict_point(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= _L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public_key + message).digest(), "little")
    left, right = _multiply(s, _BASE), _add(r, _multiply(k % _L, a))
    # Points are equal when X1/Z1 = X2/Z2 and Y1/Z1 = Y2/Z2.
    return not (
        (left[0] * right[2] - right[0] * left[2]) % _P
        or (left[1] * right[2] - right[1] * left[2]) % _P
    )


# --- Signed notes and checkpoints


def _strict_base64(text: str) -> bytes:
    """Standard base64 as an encoder writes it; anything else is refused."""
    try:
        decoded = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise Refused(f"not base64: {text[:40]!r}") from None
    if base64.b64encode(decoded).decode("ascii") != text:
        raise Refused(f"not base64 as an encoder writes it: {text[:40]!r}")
    return decoded


def parse_key(text: str, algorithm: int = 1) -> Key:
    """(name, key id, public key) of `name+id+base64(algorithm || public key)`.

    The algorithm is 1 for notes, and 4 for cosignatures.
    """
    name, _, rest = text.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    if not _is_name(name):
        raise Refused("the key is not of the form name+id+key")
    key = _strict_base64(encoded)
    if len(key) != 33 or key[0] != algorithm:
        what = "cosignatures" if algorithm == 4 else "notes"
        raise Refused(f"the key of {name!r} is not one for {what} in Ed25519")
    expected = hashlib.sha256(name.encode() + b"\n" + key).digest()[:4]
    if expected.hex() != key_id:
        raise Refused("the key does not have its id")
    if _strict_point(key[1:]) is None:
        raise Refused("the key is no point, or one of small order: anybody could sign for it")
    return name, expected, key[1:]


def _is_name(name: str) -> bool:
    return bool(name) and not any(c == "+" or c.isspace() or ord(c) < 32 for c in name)


def split_note(note: str) -> Tuple[str, List[Tuple[str, bytes]]]:
    """The text of a note, and of each signature the name, and the key id and what is signed."""
    if any(ord(character) < 32 and character != "\n" for character in note):
        raise Refused("the note has control characters")
    text, separator, lines = note.rpartition("\n\n")
    if not separator or not lines.endswith("\n") or lines.count("\n") > 1000:
        raise Refused("not a signed note: text, an empty line, 1 to 1,000 signature lines")
    signatures = []
    for line in lines[:-1].split("\n"):
        dash, _, rest = line.partition(" ")
        name, _, encoded = rest.partition(" ")
        if dash != "\u2014" or not _is_name(name):
            raise Refused(f"not a signature line: {line!r}")
        signed = _strict_base64(encoded)
        if len(signed) <= 4:
            raise Refused(f"not a signature line: {line!r}")
        signatures.append((name, signed))
    return text + "\n", signatures


def _signed_by(signatures: List[Tuple[str, bytes]], key: Key) -> List[bytes]:
    # Of the others nothing is known here.
    return [signed[4:] for name, signed in signatures if (name, signed[:4]) == key[:2]]


def has_signed(text: str, signatures: List[Tuple[str, bytes]], key: Key) -> bool:
    """Whether a key has signed; a signature by it of something else is refused."""
    found = _signed_by(signatures, key)
    if not all(ed25519_verifies(key[2], signature, text.encode()) for signature in found):
        raise Refused(f"the signature by {key[0]} is not of this text")
    return bool(found)


def has_cosigned(text: str, signatures: List[Tuple[str, bytes]], key: Key) -> bool:
    """The same of a witness: its time, in 8 bytes, and the signature of time and text."""
    found = _signed_by(signatures, key)
    for signature in found:
        time = int.from_bytes(signature[:8], "big")
        said = f"cosignature/v1\ntime {time}\n{text}".encode()
        if time >= 2**63 or not ed25519_verifies(key[2], signature[8:], said):
            raise Refused(f"the cosignature by {key[0]} is not of this checkpoint")
    return bool(found)


def open_note(note: str, trust: Trust) -> Tuple[str, str, List[str]]:
    """The text, the signer and the witnesses, once all that is demanded of them is verified.

    Witnesses are those of the policy that have cosigned, by their names in it.
    """
    text, signatures = split_note(note)
    if not isinstance(trust, Policy):
        if not has_signed(text, signatures, trust):
            raise Refused(f"not signed by {trust[0]}")
        return text, trust[0], []
    rotated = [key for rotation in trust.rotations for key in rotation[:2]]
    # A key whose name is an origin is that log's alone.
    own = [
        key
        for key in dict.fromkeys(trust.logs + rotated)
        if not key[0].startswith("eventstore/") or key[0] == text.split("\n")[0]
    ]
    keys = [key for key in own if has_signed(text, signatures, key)]
    if not keys:
        raise Refused("not signed by a log that the policy names")
    refusals = [_refusal(trust.rotations, key, text) for key in keys]
    if all(refusals):
        raise Refused(refusals[0])
    signers = [key[0] for key, refusal in zip(keys, refusals) if not refusal]
    witnesses = trust.witnesses.items()
    cosigners = [name for name, key in witnesses if has_cosigned(text, signatures, key)]
    counted = {"none", *cosigners}
    for group, needed, members in trust.groups:  # members come before their group
        if sum(member in counted for member in members) >= needed:
            counted.add(group)
    if trust.quorum not in counted:
        found = ", ".join(cosigners) or "nobody"
        raise Refused(f"cosigned by {found}: the policy demands more for {trust.quorum!r}")
    return text, signers[0], cosigners


def parse_trust(text: str) -> Trust:
    """A verifier key, or a policy that names at least one log."""
    if len(text.split()) < 2:
        return parse_key(text)
    policy = parse_policy(text)
    if not policy.logs:
        raise Refused("the policy names no log: whose signature is needed?")
    return policy


def parse_policy(text: str) -> Policy:
    """c2sp.org/tlog-policy."""
    if any((ord(c) < 32 and c not in "\t\n") or c == "\x7f" for c in text):
        raise Refused("the policy has control characters")
    policy, quorums, defined = Policy([], {}, [], ""), [], {"none"}
    members_so_far: set[str] = set()
    for line in text.split("\n"):
        words = [word for word in re.split("[ \t]+", line) if word]
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "log" and len(words) in (2, 3):
            key = parse_key(words[1])
            if key[2] in [known[2] for known in policy.logs]:
                raise Refused("two logs of the policy have one key")
            policy.logs.append(key)
        elif words[0] == "witness" and len(words) in (3, 4) and words[1] not in defined:
            key = parse_key(words[2], algorithm=4)
            if key[2] in [known[2] for known in policy.witnesses.values()]:
                raise Refused("two witnesses of the policy have one key")
            policy.witnesses[words[1]] = key
            defined.add(words[1])
        elif words[0] == "group" and len(words) > 3 and words[1] not in defined:
            name, needed, *members = words[1:]
            if not re.fullmatch("all|any|[1-9][0-9]{0,8}", needed):
                raise Refused(f"not how many of a group are needed: {needed!r}")
            count = {"all": len(members), "any": 1}.get(needed) or int(needed)
            fresh = set(members) - members_so_far
            if len(fresh) < len(members) or not fresh < defined or "none" in fresh:
                raise Refused(f"a member of {name!r} is not defined before, or a member already")
            if count > len(members):
                raise Refused(f"the group {name!r} needs more members than it has")
            members_so_far |= fresh
            policy.groups.append((name, count, members))
            defined.add(name)
        elif words[0] == "quorum" and len(words) == 2 and words[1] in defined:
            quorums.append(words[1])
        else:
            raise Refused(f"not a line of a policy: {line[:100]!r}")
    if len(quorums) != 1:
        raise Refused("a policy has one quorum line")
    return policy._replace(quorum=quorums[0])


_STORE_ID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_CHECKPOINT = re.compile(
    f"eventstore/({_STORE_ID.pattern})\n"
    "([1-9][0-9]{0,18})\n"
    "([A-Za-z0-9+/]{43}=)\n"
    "commit ([1-9][0-9]{0,18})\n"
    "recorded-at ([0-9-]{10}T[0-9:.]{15}Z)\n"
    "signed-at ([0-9-]{10}T[0-9:.]{15}Z)\n"
)


def open_checkpoint(note: str, trust: Trust) -> dict[str, Any]:
    """What a checkpoint states, as a dictionary, once its signatures are verified."""
    text, signer, cosigners = open_note(note, trust)
    by = f" (cosigned by {' and '.join(cosigners)})" if cosigners else ""
    return dict(_stated(text), signer=signer, cosigned=by)


def _stated(text: str) -> dict[str, Any]:
    found = _CHECKPOINT.fullmatch(text)
    if found is None:
        raise Refused("signed, but not a checkpoint of a store")
    if not int(found[4]) <= int(found[2]) < 2**63:
        raise Refused("signed, but no store has as many records, or so many commits for them")
    _refuse_no_time(found[5])
    _refuse_no_time(found[6])
    return {
        "store_id": found[1],
        "size": int(found[2]),
        "root": _strict_base64(found[3]),
        "commit": int(found[4]),
        "recorded_at": found[5],
        "signed_at": found[6],
    }


def _refuse_no_time(moment: str) -> None:
    try:
        datetime.datetime.strptime(moment, "%Y-%m-%dT%H:%M:%S.%fZ")
    except ValueError:
        raise Refused(f"signed, but {moment} is no time") from None


# --- Rotated keys: FORMAT.md, "Checkpoints and proofs"

_ROTATION = re.compile(
    "eventstore/key-rotation\nold-key ([^\n]+)\nnew-key ([^\n]+)\n"
    "rotated-at ([0-9-]{10}T[0-9:.]{15}Z)\n(.*)",
    re.DOTALL,
)


def parse_rotation(note: str) -> Rotation:
    """A key rotation that both keys have signed."""
    text, signatures = split_note(note)
    found = _ROTATION.fullmatch(text)
    if found is None:
        raise Refused("not a key rotation")
    _refuse_no_time(found[3])
    rotation = Rotation(parse_key(found[1]), parse_key(found[2]), found[3], _stated(found[4]))
    what = _rotation_words(rotation)
    for key, line in ((rotation.old, found[1]), (rotation.new, found[2])):
        if line != f"{key[0]}+{key[1].hex()}+{base64.b64encode(bytes([1]) + key[2]).decode()}":
            raise Refused(f"{what}: a key is not written in the one form")
        if not has_signed(text, signatures, key):
            raise Refused(f"{what} is not signed by {_key_words(key)}")
    if rotation.old[2] == rotation.new[2]:
        raise Refused(f"{what} has one key in place of itself")
    if rotation.at < rotation.last["signed_at"]:
        raise Refused(f"{what} is back-dated: its checkpoint was signed later")
    return rotation


def with_rotations(trust: Trust, notes: List[str]) -> Trust:
    """What is trusted, once the rotations are lines of keys that each have a trusted one."""
    policy = trust if isinstance(trust, Policy) else Policy([trust], {}, [], "none")
    rotations = [parse_rotation(note) for note in dict.fromkeys(notes)]
    if not rotations:
        return trust
    names: Dict[bytes, Key] = {}
    for key in policy.logs + [key for rotation in rotations for key in rotation[:2]]:
        if names.setdefault(key[2], key) != key:
            raise Refused(f"{_key_words(key)} has another name, too")
    after: Dict[Key, Rotation] = {}
    before: Dict[Key, Rotation] = {}
    for rotation in rotations:
        if rotation.last["store_id"] != rotations[0].last["store_id"]:
            raise Refused(f"{_rotation_words(rotation)} is of another store than the others")
        for known, key in ((after, rotation.old), (before, rotation.new)):
            if known.setdefault(key, rotation) != rotation:
                raise Refused(
                    f"{_key_words(key)} was rotated twice: {_rotation_words(rotation)}, "
                    f"{_rotation_words(known[key])}"
                )
    ordered: List[Rotation] = []
    for first in after.values():
        if first.old in before:
            continue
        line = [first]
        while line[-1].new in after:  # ends, since no key comes after two
            line.append(after[line[-1].new])
        if not any(key in policy.logs for rotation in line for key in rotation[:2]):
            raise Refused(f"no rotation leads from a trusted key to {_rotation_words(first)}")
        for place in range(1, len(line)):
            _refuse_disorder(line[place - 1], line[place])
        ordered += line
    for rotation in rotations:
        if rotation not in ordered:
            raise Refused(f"{_rotation_words(rotation)} leads back to where it comes from")
    return policy._replace(rotations=tuple(ordered))


def _refuse_disorder(one: Rotation, other: Rotation) -> None:
    if other.last["size"] < one.last["size"] or other.at < one.at:
        raise Refused(f"{_rotation_words(other)} is back-dated: it comes after another one")
    if other.last["size"] == one.last["size"] and _history(other.last) != _history(one.last):
        raise Refused(f"{_rotation_words(other)} states another history than another one")


def _refusal(rotations: Tuple[Rotation, ...], key: Key, text: str) -> str:
    """Why it is not believed what a key has signed; empty when it is."""
    for rotation in rotations:
        stated = _stated(text)
        what, last = _rotation_words(rotation), rotation.last
        if last["store_id"] != stated["store_id"]:
            return f"{what} is of another store than the checkpoint"
        if last["size"] == stated["size"] and _history(last) != _history(stated):
            return f"the checkpoint states another history than {what}"
        if key == rotation.old and stated["size"] > last["size"]:
            return f"{_key_words(key)} signs no more than {last['size']} records, by {what}"
        if key == rotation.old and stated["signed_at"] > rotation.at:
            return f"{_key_words(key)} has signed after {what}"
    return ""


def _history(stated: Record) -> Tuple[Any, ...]:
    return stated["root"], stated["commit"], stated["recorded_at"]


def _key_words(key: Key) -> str:
    return f"{key[0]}+{key[1].hex()}"


def _rotation_words(rotation: Rotation) -> str:
    return (
        f"the key rotation from {_key_words(rotation.old)} to {_key_words(rotation.new)} "
        f"of {rotation.at}"
    )


# --- The Merkle tree


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return _sha256(b"\x01" + left + right)


class Tree:
    """A tree that grows leaf by leaf: the heads of its complete subtrees, the largest first."""

    def __init__(self) -> None:
        self.size = 0
        self._heads: list[bytes] = []

    def append(self, leaf: bytes) -> None:
        self.size += 1
        self._heads.append(leaf)
        # As many subtrees are completed as the new size has zeros at its end.
        size = self.size
        while size % 2 == 0:
            right, left = self._heads.pop(), self._heads.pop()
            self._heads.append(_node(left, right))
            size //= 2

    def root(self) -> bytes:
        root = self._heads[-1]
        for head in reversed(self._heads[:-1]):
            root = _node(head, root)
        return root


def root_from_inclusion(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.3.2: the root that a path leads to."""
    if not 0 <= index < size:
        raise Refused("the leaf is not within the tree")
    fn, sn, r = index, size - 1, leaf
    for p in path:
        if sn == 0:
            raise Refused("the path is too long")
        if fn % 2 == 1 or fn == sn:
            r = _node(p, r)
            while fn % 2 == 0 and fn != 0:
                fn, sn = fn // 2, sn // 2
        else:
            r = _node(r, p)
        fn, sn = fn // 2, sn // 2
    if sn != 0:
        raise Refused("the path is too short")
    return r


def check_consistency(
    first: int, second: int, first_root: bytes, second_root: bytes, path: list[bytes]
) -> None:
    """RFC 9162, section 2.1.4.2."""
    if not 0 < first <= second:
        raise Refused("the older checkpoint has more records than the newer one")
    if first == second:
        if path or first_root != second_root:
            raise Refused("two checkpoints of one size do not state the same root")
        return
    nodes = list(path)
    if first & (first - 1) == 0:
        nodes.insert(0, first_root)
    if not nodes:
        raise Refused("the path is empty")
    fn, sn = first - 1, second - 1
    while fn % 2 == 1:
        fn, sn = fn // 2, sn // 2
    fr = sr = nodes[0]
    for c in nodes[1:]:
        if sn == 0:
            raise Refused("the path is too long")
        if fn % 2 == 1 or fn == sn:
            fr, sr = _node(c, fr), _node(c, sr)
            while fn % 2 == 0 and fn != 0:
                fn, sn = fn // 2, sn // 2
        else:
            sr = _node(sr, c)
        fn, sn = fn // 2, sn // 2
    if sn != 0:
        raise Refused("the path is too short")
    if fr != first_root or sr != second_root:
        raise Refused("history was changed between the two checkpoints")


# --- Records

_FORMAT_VERSION = 2
_COMPACTED_VERSION = 3
_KINDS = (
    "artifact_type execution_type context_type artifact execution context "
    "event attribution association parent_context retention_rule hold erasure"
).split()
_NEVER_ERASED = ("retention_rule", "hold", "erasure")
_MEMBERS = (
    "position commit recorded_at kind entity_id type_id previous "
    "actor reason request_id salt payload commitment who_salt who_commitment"
).split()


def leaf_hash(store_id: str, record: Record) -> bytes:
    """FORMAT.md, "The proof": the hash of a record's leaf. Its bytes are given as bytes."""
    salt, payload, commitment = record["salt"], record["payload"], record["commitment"]
    if commitment is None:
        # The length matters: salt and payload are hashed as one, so a byte could move between them.
        if salt is None or payload is None or len(salt) != 16:
            raise Refused(f"record {record['position']} has neither content nor commitment")
        commitment = _sha256(salt + payload)
    elif salt is not None or payload is not None or len(commitment) != 32:
        raise Refused(f"record {record['position']} has content and a commitment")
    if record["kind"] not in _KINDS:
        raise Refused(f"record {record['position']} is of no known kind")
    try:
        who = _commitment_to_who(record)
        leaf = bytes.fromhex(store_id.replace("-", ""))
        leaf += struct.pack(">qqq", record["position"], record["commit"], record["recorded_at"])
        leaf += struct.pack(">Bq", _KINDS.index(record["kind"]) + 1, record["entity_id"])
        for number in (record["type_id"], record["previous"]):
            leaf += struct.pack(">Bq", number is not None, number or 0)
    except (struct.error, TypeError, AttributeError, UnicodeError) as error:
        raise Refused(f"a record cannot be one: {error}") from None
    return _sha256(b"\x00" + leaf + commitment + who)


def _commitment_to_who(record: Record) -> bytes:
    salt, commitment = record["who_salt"], record["who_commitment"]
    texts = [record["actor"], record["reason"], record["request_id"]]
    if commitment is not None:
        if salt is not None or texts != [None] * 3 or len(commitment) != 32:
            raise Refused(f"record {record['position']} says who put it beside a commitment to it")
        return bytes(commitment)
    if salt is None or len(salt) != 16:
        raise Refused(f"record {record['position']} has no salt or commitment for who put it")
    who = b""
    for text in texts:
        if text is None:
            who += b"\x00"
        else:
            encoded = text.encode()
            who += b"\x01" + struct.pack(">I", len(encoded)) + encoded
    return _sha256(salt + who)


def parse_record(members: Any) -> Record:
    """A record of JSON, its bytes decoded."""
    if not isinstance(members, dict) or list(members) != _MEMBERS:
        raise Refused("not a record: its members are " + ", ".join(_MEMBERS))
    if any(isinstance(value, (bool, float)) for value in members.values()):
        raise Refused("a record has whole numbers, texts and nulls alone")
    record = dict(members)
    for name in ("salt", "payload", "commitment", "who_salt", "who_commitment"):
        if record[name] is not None:
            if not isinstance(record[name], str):
                raise Refused(f"{name} is base64")
            record[name] = _strict_base64(record[name])
    return record


def load_json(text: str) -> Any:
    """JSON that is written in the one way which FORMAT.md lays down, in one line."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(f"not JSON: {error}") from None
    if json.dumps(document, separators=(",", ":"), ensure_ascii=False) + "\n" != text:
        raise Refused("not JSON as the store writes it")
    return document


# --- What records say

_NODE_FIELDS = {
    # name, type, external id, uri, state, create time, update time
    "artifact": (7, 8, 11, 3, 6, 9, 10),
    "execution": (6, 7, 10, None, 3, 8, 9),
    "context": (3, 6, 9, None, None, 7, 8),
}
_TYPE_FIELDS = {
    # version, external id
    "artifact_type": (4, 7),
    "execution_type": (6, 9),
    "context_type": (4, 7),
}
_LINK_FIELDS = {
    "event": {"artifact_id": 1, "execution_id": 2, "event_type": 4, "event_time": 5},
    "attribution": {"artifact_id": 1, "context_id": 2},
    "association": {"execution_id": 1, "context_id": 2},
    "parent_context": {"context_id": 1, "parent_context_id": 2},
}
_VALUE_MEMBERS = ("int_value double_value string_value struct_value proto_value bool_value").split()
_COLUMN_MEMBERS = (
    "int_value double_value string_value bool_value struct_value proto_value"
).split()
"""The members in the order of the columns; above, by the numbers of their fields from 1 on."""
_DERIVED = (
    "name external_id version uri state create_time update_time artifact_id execution_id "
    "context_id parent_context_id event_type event_time properties custom_properties"
).split()


_ENUMS = {"state": 6, "event_type": 7}
"""The columns of enums, whose numbers go from 0 to these; others are passed over."""


Field = Tuple[int, int, Any, int]
"""Of a protobuf message: number, wire type, value (None of a group), and where it ends."""
Fields = List[Field]

_VARINT, _FIXED64, _BYTES, _GROUP, _END_GROUP, _FIXED32 = range(6)
_LEVELS_READ, _LEVELS_KEPT = 101, 99
"""How many messages protobuf reads one in the other, and how many are kept where there are more."""


_MESSAGES: Dict[str, Dict[int, str]] = {
    "artifact": {4: "property", 5: "property", 12: "other"},
    "execution": {4: "property", 5: "property", 11: "other"},
    "context": {4: "property", 5: "property", 10: "other"},
    "event": {3: "path", 6: "other"},
    "attribution": {3: "other"},
    "association": {3: "other"},
    "parent_context": {3: "other"},
    "property": {2: "value"},
    "value": {4: "struct", 5: "other"},
    "struct": {1: "member"},
    "member": {2: "struct value"},
    "struct value": {5: "struct", 6: "list"},
    "list": {1: "struct value"},
    "path": {1: "other"},
    "other": {},
}
"""Which fields of messages are messages; those of types and retention are not looked into."""


class _TooDeep(ValueError):
    """More messages lie one in the other than protobuf reads."""


def wire_fields(message: bytes) -> Fields:
    """The fields of a protobuf message in their order."""
    found: Fields = []
    place = 0
    try:
        while place < len(message):
            field = _field(message, place, 0)
            if field[1] == _END_GROUP:
                raise IndexError
            place = field[3]
            found.append(field)
    except IndexError:
        raise Refused("a payload is no protobuf message") from None
    return found


def _field(message: bytes, start: int, depth: int) -> Field:
    """The field at a place. Raises IndexError for what is none."""
    tag, place = message[start], start + 1
    if tag > 127:
        tag, place = _varint(message, start, 5)
    number, wire_type = tag >> 3, tag & 7
    value: Any = None
    # In a group, which is passed over, protobuf takes the number 0 as well.
    if tag >= 2**32 or (not number and not depth) or wire_type > _FIXED32 or depth > 100:
        raise IndexError
    if wire_type == _VARINT:
        value, place = _varint(message, place, 10)
        value = _signed(value, 64)
    elif wire_type == _GROUP:
        inner = _field(message, place, depth + 1)
        while inner[1] != _END_GROUP:
            inner = _field(message, inner[3], depth + 1)
        place = inner[3]
        if inner[0] != number:
            raise IndexError
    elif wire_type != _END_GROUP:
        length = 8 if wire_type == _FIXED64 else 4
        if wire_type == _BYTES:
            length, place = _varint(message, place, 10)
        value = message[place : place + length]
        place += length
        if place > len(message):
            raise IndexError
    return number, wire_type, value, place


def _varint(message: bytes, place: int, most: int) -> Tuple[int, int]:
    value = message[place]
    if value < 128:
        return value, place + 1
    value = 0
    for count in range(most):
        byte = message[place + count]
        value |= (byte & 127) << 7 * count
        if byte < 128:
            return value, place + count + 1
    raise IndexError


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (value >> (bits - 1) << bits)


def _values(fields: Fields, number: int | None, wire_type: int) -> List[Any]:
    """What a field has of its wire type; of another one it is as one that is not known."""
    return [f[2] for f in fields if f[0] == number and f[1] == wire_type]


def _integer(fields: Fields, number: int | None, default: int | None = None) -> Any:
    return (_values(fields, number, _VARINT) or [default])[-1]


def _enum(fields: Fields, number: int | None, most: int, default: int | None) -> Any:
    known = [_signed(value, 32) for value in _values(fields, number, _VARINT)]
    return [default, *(value for value in known if 0 <= value <= most)][-1]


def _text(fields: Fields, number: int | None, default: str | None = None) -> str | None:
    values = _values(fields, number, _BYTES)
    return values[-1].decode("utf-8", "replace") if values else default


def _member(fields: Fields, wire_types: List[int]) -> Tuple[int, List[Any]]:
    """The last member of a oneof, by its number, and what it has; 0 where there is none.

    Of numbers and texts the last one counts. Messages in a row, as long as no other member comes,
    are one message.
    """
    number, values = 0, list[Any]()
    for field in fields:
        if field[0] <= len(wire_types) and wire_types[field[0] - 1] == field[1]:
            values = [*(values if field[0] == number else ()), field[2]]
            number = field[0]
    return number, values


def _entries(fields: Fields, number: int, level: int, most: int) -> List[Tuple[str, bytes, int]]:
    """Of a map the names, sorted, the values as messages, and the level that these are at."""
    found: Dict[str, bytes] = {}
    for entry in _values(fields, number, _BYTES) if level + 1 <= most else ():
        inner = wire_fields(entry)
        if any(f[0] > 2 or f[1] != _BYTES for f in inner):
            # To protobuf an entry with anything else in it is an unknown field.
            continue
        values = _values(inner, 2, _BYTES) if level + 2 <= most else ()
        found[_text(inner, 1) or ""] = b"".join(values)
    return [(name, found[name], level + 2) for name in sorted(found)]


def _check_nested(message: bytes, name: str, level: int) -> None:
    """Raise what `wire_fields` does, or _TooDeep, for any message in one of these.

    Protobuf reads also those that others take the place of.
    """
    if level > _LEVELS_READ:
        raise _TooDeep
    inside = _MESSAGES[name]
    for field in wire_fields(message):
        if field[1] == _BYTES and field[0] in inside:
            _check_nested(field[2], inside[field[0]], level + 1)


def _struct(message: bytes, level: int, most: int) -> Dict[str, Any]:
    """A google.protobuf.Struct."""
    entries = _entries(wire_fields(message), 1, level, most)
    return {name: _struct_value(value, at, most) for name, value, at in entries}


def _struct_value(message: bytes, level: int, most: int) -> Any:
    wire_types = [_VARINT, _FIXED64, _BYTES, _VARINT, _BYTES, _BYTES]
    number, values = _member(wire_fields(message), wire_types)
    if number == 2:
        number_value: float = struct.unpack("<d", values[-1])[0]
        return number_value
    if number == 3:
        return values[-1].decode("utf-8", "replace")
    if number == 4:
        return bool(values[-1])
    if number == 5 and level < most:
        return _struct(b"".join(values), level + 1, most)
    if number == 6 and level < most:
        elements = _values(wire_fields(b"".join(values)), 1, _BYTES)
        return [_struct_value(e, level + 2, most) for e in elements if level + 2 <= most]
    return None


def _any(message: bytes) -> bytes:
    """A google.protobuf.Any, with its fields in order, and then what is not known."""
    fields = wire_fields(message)
    known = [(_text(fields, 1) or "").encode(), (_values(fields, 2, _BYTES) or [b""])[-1]]
    written = [
        bytes([number << 3 | _BYTES]) + _length(len(value)) + value
        for number, value in enumerate(known, start=1)
        if value
    ]
    start = 0
    for number, wire_type, _, end in fields:
        if wire_type != _BYTES or number > 2:
            written.append(message[start:end])
        start = end
    return b"".join(written)


def _length(value: int) -> bytes:
    written = b""
    while value > 127:
        written += bytes([value & 127 | 128])
        value >>= 7
    return written + bytes([value])


def _finite(value: Any) -> Any:
    """Numbers that JSON does not have, as protobuf's JSON writes them."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {name: _finite(member) for name, member in value.items()}
    return [_finite(member) for member in value] if isinstance(value, list) else value


def _property_value(message: bytes, level: int, most: int) -> Dict[str, Any]:
    """A property as the columns have it: one member is set, the others are None."""
    found: Dict[str, Any] = dict.fromkeys(_COLUMN_MEMBERS)
    wire_types = [_VARINT, _FIXED64, _BYTES, _BYTES, _BYTES, _VARINT]
    number, values = _member(wire_fields(message), wire_types)
    name = _VALUE_MEMBERS[number - 1] if number else ""
    if name == "int_value":
        found[name] = values[-1]
    elif name == "double_value":
        found[name] = struct.unpack("<d", values[-1])[0]
    elif name == "string_value":
        found[name] = values[-1].decode("utf-8", "replace")
    elif name == "bool_value":
        found[name] = bool(values[-1])
    elif name == "struct_value" and level < most:
        found[name] = json.dumps(_finite(_struct(b"".join(values), level + 1, most)))
    elif name == "proto_value" and level < most:
        found[name] = _any(b"".join(values))
    return found


def _properties(fields: Fields, number: int, most: int) -> List[Tuple[str, Dict[str, Any]]]:
    return [
        (name, _property_value(value, level, most))
        for name, value, level in _entries(fields, number, 1, most)
    ]


_LATEST = 253_402_300_799_999_999
"""The last microsecond of 9999, since 1970."""


def check_record(record: Record) -> Dict[str, Any] | None:
    """The columns that the content of a record gives, once it agrees with the record's own.

    None when the content is erased or not shown.
    """
    kind, what = record["kind"], f"the record at position {record['position']}"
    is_node = kind in _NODE_FIELDS
    if record["entity_id"] < 1 or is_node != (record["type_id"] is not None):
        raise Refused(f"{what} has no id, or a type id where none belongs")
    if is_node and record["type_id"] < 1:
        raise Refused(f"{what} has type id {record['type_id']}")
    if not 0 <= record["recorded_at"] <= _LATEST:
        raise Refused(f"{what} was recorded at no time between 1970 and 9999")
    if record["previous"] is not None and not 0 < record["previous"] < record["position"]:
        raise Refused(f"{what} replaces position {record['previous']}, which is not before it")
    if record["previous"] is not None and kind in _LINK_FIELDS:
        raise Refused(f"{what} is a link, and is said to replace another one")
    is_erased = record["commitment"] is not None or record["who_commitment"] is not None
    if is_erased and kind in _NEVER_ERASED:
        raise Refused(f"{what} is erased, which records of its kind never are")
    if record["payload"] is None:
        return None
    try:
        try:
            return _content(record, what, _LEVELS_READ)
        except _TooDeep:
            return _content(record, what, _LEVELS_KEPT)
    except (LookupError, TypeError, ValueError, AttributeError, struct.error, RecursionError):
        raise Refused(f"{what} has content that is no message of its kind") from None


def _content(record: Record, what: str, most: int) -> Dict[str, Any]:
    kind = record["kind"]
    is_node, is_type = kind in _NODE_FIELDS, kind in _TYPE_FIELDS
    if most == _LEVELS_READ and kind in _MESSAGES:
        _check_nested(record["payload"], kind, 1)
    fields = wire_fields(record["payload"])
    if kind not in _LINK_FIELDS and _integer(fields, 1, 0) != record["entity_id"]:
        raise Refused(f"{what} is of {kind} {record['entity_id']}, its content of another one")
    found: Dict[str, Any] = dict.fromkeys(_DERIVED)
    if is_node:
        if _integer(fields, 2, 0) != record["type_id"]:
            raise Refused(f"{what} has type id {record['type_id']}, its content another one")
        name, type_name, external_id, uri, state, created, updated = _NODE_FIELDS[kind]
        found.update(
            name=_text(fields, name),
            external_id=_text(fields, external_id),
            uri=_text(fields, uri, None if uri is None else ""),
            state=_enum(fields, state, _ENUMS["state"], None),
            create_time=_integer(fields, created, 0),
            update_time=_integer(fields, updated, 0),
            properties=_properties(fields, 4, most),
            custom_properties=_properties(fields, 5, most),
            type=_text(fields, type_name),
        )
    elif is_type:
        version, external_id = _TYPE_FIELDS[kind]
        found.update(
            name=_text(fields, 2, ""),
            version=_text(fields, version),
            external_id=_text(fields, external_id),
        )
    elif kind in _LINK_FIELDS:
        found.update({name: _integer(fields, n, 0) for name, n in _LINK_FIELDS[kind].items()})
        if kind == "event":
            found["event_type"] = _enum(fields, 4, _ENUMS["event_type"], 0)
    if not is_node:
        found.update(properties=[], custom_properties=[])
    return found


_PROPOSED, _REQUESTED, _COMPLETED, _WITHDRAWN = 1, 2, 3, 4
_PLACED, _RELEASE_PROPOSED, _RELEASED = 1, 2, 3
_INPUTS = (2, 3, 5)
"""The types of events by which an execution reads an artifact."""
_NEXT_STAGES = {
    "hold": {
        0: (_PLACED,),
        _PLACED: (_RELEASE_PROPOSED, _RELEASED),
        _RELEASE_PROPOSED: (_RELEASED,),
    },
    "erasure": {
        0: (_PROPOSED, _REQUESTED),
        _PROPOSED: (_REQUESTED, _WITHDRAWN),
        _REQUESTED: (_COMPLETED,),
    },
}
_PROPOSALS = {"hold": (_RELEASE_PROPOSED, _RELEASED), "erasure": (_PROPOSED, _REQUESTED)}
"""The stage that is a proposal, and the one that somebody else brings about."""
_KEPT_SECONDS_MAX = 1_000 * 366 * 86_400
_STAYS = {
    "retention_rule": (
        "scope keep_at_least_seconds keep_at_most_seconds includes_current basis needs_approval"
    ).split(),
    "hold": "scope basis ticket needs_approval".split(),
    "erasure": "basis ticket rule_position".split(),
}
"""What stays from one record to the next; of a rule as it is withdrawn."""

Said = Dict[str, Any]
"""What a record of a rule, hold or erasure says, by the names of protos/retention.proto."""


class ErasedRange(NamedTuple):
    """ErasedRange of protos/retention.proto."""

    first: int
    last: int
    content: bool
    who: bool
    redacted: Tuple[str, ...]
    replaced_by: int


class Erasures:
    """What is erased, and whether an erasure says so: FORMAT.md, "What is erased"."""

    def __init__(self) -> None:
        self._entities: List[Tuple[str, int]] = []
        self._lacks: List[List[bool]] = []
        """By position: content, who. What it lacks, an erasure after it has to cover."""
        self._uncovered: List[set[int]] = [set(), set()]
        self._replacing: Dict[int, Tuple[Tuple[str, int], int]] = {}

    def add(self, record: Record) -> bool:
        """Note a record; whether it replaces what was redacted."""
        position, entity = record["position"], (record["kind"], record["entity_id"])
        lacks = [record["commitment"] is not None, record["who_commitment"] is not None]
        self._entities.append(entity)
        # Another form of the segment may still have it.
        kept = record.get("kept", (False, False))
        self._lacks.append([lack and not keeps for lack, keeps in zip(lacks, kept)])
        for part in (0, 1):
            if lacks[part]:
                self._uncovered[part].add(position)
        expected = self._replacing.pop(position, None)
        if expected not in (None, (entity, record["commit"])):
            raise Refused(f"the record at position {position} replaces what is of another entity")
        return expected is not None

    def take_effect(self, record: Record, said: Said) -> List[Tuple[int, Tuple[str, int], bool]]:
        """Note what a record of an erasure says; which records it covers from here on.

        With each: whether its content is erased.
        """
        what, stage = f"the erasure at position {record['position']}", said["stage"]
        for given in said["ranges"]:
            self._check_range(what, stage, given)
        if stage == _COMPLETED:
            self._check_destroyed(what, said["ranges"])
        return self._covered(said["ranges"], record) if stage == _REQUESTED else []

    def _check_range(self, what: str, stage: int, given: ErasedRange) -> None:
        if not (given.content or given.who):
            raise Refused(f"{what} covers neither content nor who of some positions")
        if stage not in (_REQUESTED, _COMPLETED):
            return
        for position in range(given.first, given.last + 1):
            kind = self._entities[position - 1][0]
            if kind in _NEVER_ERASED or (given.content and kind not in _NODE_FIELDS):
                raise Refused(f"{what} covers position {position}, of a {kind}: that stays")
        if bool(given.redacted) != bool(given.replaced_by):
            raise Refused(f"{what} has no replacement for what is redacted")

    def _covered(
        self, ranges: List[ErasedRange], record: Record
    ) -> List[Tuple[int, Tuple[str, int], bool]]:
        erased = []
        for given in ranges:
            if given.replaced_by:
                entities = set(self._entities[given.first - 1 : given.last])
                expected = entities.pop(), record["commit"]
                if (
                    entities
                    or not given.content
                    or given.replaced_by <= record["position"]
                    or self._replacing.setdefault(given.replaced_by, expected) != expected
                ):
                    raise Refused(f"an erasure replaces position {given.first} by none of its own")
            positions = range(given.first, given.last + 1)
            erased += [(p, self._entities[p - 1], given.content) for p in positions]
            if given.content:
                self._uncovered[0].difference_update(positions)
            if given.who:
                self._uncovered[1].difference_update(positions)
        return erased

    def _check_destroyed(self, what: str, ranges: List[ErasedRange]) -> None:
        for given in ranges:
            for position in range(given.first, given.last + 1):
                content, who = self._lacks[position - 1]
                if (given.content and not content) or (given.who and not who):
                    raise Refused(f"{what} says that position {position} is destroyed: it is there")

    def finish(self) -> None:
        """Raise Refused for what lacks content or who, and no erasure covers."""
        for part, word in enumerate(("content", "who put it")):
            if self._uncovered[part]:
                position = min(self._uncovered[part])
                raise Refused(f"position {position} is without {word}, and no erasure covers that")
        if self._replacing:
            raise Refused(f"position {min(self._replacing)}, which replaces another, is missing")


class Scope(NamedTuple):
    """Scope of protos/retention.proto."""

    kinds: Tuple[str, ...]
    type_ids: Tuple[int, ...]
    context_ids: Tuple[int, ...]
    entities: Tuple[Tuple[str, int], ...]
    filter: str


def said_by(record: Record) -> Said:
    """What a record of a rule, hold or erasure says."""
    fields, kind = wire_fields(record["payload"]), record["kind"]

    def number(place: int) -> Any:
        return _integer(fields, place, 0)

    def text(place: int) -> Any:
        return _text(fields, place, "")

    if kind == "retention_rule":
        return {
            "scope": _scope(fields),
            "keep_at_least_seconds": number(3),
            "keep_at_most_seconds": number(4),
            "includes_current": bool(number(5)),
            "basis": text(6),
            "is_withdrawn": bool(number(8)),
            "needs_approval": bool(number(9)),
        }
    if kind == "hold":
        return {
            "scope": _scope(fields),
            "stage": _signed(number(3), 32),
            "basis": text(4),
            "ticket": text(5),
            "release_ticket": text(6),
            "needs_approval": bool(number(7)),
            "is_repeated": bool(number(8)),
        }
    return {
        "stage": _signed(number(2), 32),
        "ranges": [_range(message) for message in _values(fields, 3, _BYTES)],
        "basis": text(4),
        "ticket": text(5),
        "rule_position": number(6),
        "counts": (number(7), number(8)),
        "files": [wire_fields(message) for message in _values(fields, 9, _BYTES)],
        "is_repeated": bool(number(10)),
    }


def _range(message: bytes) -> ErasedRange:
    given = wire_fields(message)
    first, last, content, who, replaced_by = (_integer(given, n, 0) for n in (1, 2, 3, 4, 6))
    redacted = tuple(name.decode("utf-8", "replace") for name in _values(given, 5, _BYTES))
    return ErasedRange(first, last, bool(content), bool(who), redacted, replaced_by)


def _scope(fields: Fields) -> Scope:
    asked = wire_fields(b"".join(_values(fields, 2, _BYTES)))
    entities = [wire_fields(entity) for entity in _values(asked, 4, _BYTES)]
    return Scope(
        tuple(kind.decode("utf-8", "replace") for kind in _values(asked, 1, _BYTES)),
        _integers(asked, 2),
        _integers(asked, 3),
        tuple((_text(entity, 1) or "", _integer(entity, 2, 0)) for entity in entities),
        _text(asked, 5) or "",
    )


def _integers(fields: Fields, number: int) -> Tuple[int, ...]:
    """A repeated field of integers, packed or not."""
    found: List[int] = []
    for field in fields:
        if field[:2] == (number, _VARINT):
            found.append(field[2])
        elif field[:2] == (number, _BYTES):
            place = 0
            while place < len(field[2]):
                value, place = _varint(field[2], place, 10)
                found.append(_signed(value, 64))
    return tuple(found)


class Stages:
    """Whether rules, holds and erasures say what can follow what they said before.

    FORMAT.md, "What is kept" and "What is erased".
    """

    def __init__(self) -> None:
        self._newest: Dict[Tuple[str, int], Tuple[Record, Said]] = {}
        self._rules: Dict[int, Said] = {}

    def add(self, record: Record) -> Tuple[Said, Said | None]:
        """Note a record; what it says, and what the one before it says."""
        kind, entity = record["kind"], (record["kind"], record["entity_id"])
        what = f"the {kind.replace('_', ' ')} at position {record['position']}"
        try:
            said = said_by(record)
        except (LookupError, TypeError, ValueError):
            raise Refused(f"{what} is no message") from None
        for given in said.get("ranges", ()):
            if not 1 <= given.first <= given.last < record["position"]:
                raise Refused(f"{what} covers positions that are not before it")
        former, before = self._newest.get(entity, (None, None))
        self._newest[entity] = record, said
        if kind == "retention_rule":
            self._rules[record["position"]] = said
            faults = self._faults_of_rule(said, before)
        else:
            faults = self._faults_of_stage(kind, said, before)
        for fault in faults:
            raise Refused(f"{what} {fault}")
        if former is not None and before is not None and self._is_second_step(kind, said, before):
            people = former["actor"], record["actor"]
            if None in people or people[0] == people[1]:
                raise Refused(
                    f"{what} was proposed at position {former['position']}, and not approved by "
                    "somebody else"
                )
        return said, before

    def _faults_of_rule(self, rule: Said, before: Said | None) -> Iterator[str]:
        least, most = rule["keep_at_least_seconds"], rule["keep_at_most_seconds"]
        if not (0 <= least <= _KEPT_SECONDS_MAX and 0 <= most <= _KEPT_SECONDS_MAX):
            yield "keeps records for what is no span of time"
        if not (least or most or rule["needs_approval"]) or rule["includes_current"] > bool(most):
            yield "says nothing"
        if 0 < most < least:
            yield "keeps records at most shorter than at least"
        if before is None:
            if rule["is_withdrawn"]:
                yield "is withdrawn by its first record"
            return
        if before["is_withdrawn"]:
            yield "was withdrawn before"
        if rule["is_withdrawn"]:
            yield from self._faults_of_changes("retention_rule", rule, before)
        if least < before["keep_at_least_seconds"]:
            yield "keeps records shorter than before"
        if before["needs_approval"] and not rule["needs_approval"]:
            yield "asks for no second person any more"

    def _faults_of_changes(self, kind: str, said: Said, before: Said) -> Iterator[str]:
        for name in _STAYS[kind]:
            if said[name] != before[name]:
                yield f"has another {name.replace('_', ' ')} than before"

    def _faults_of_stage(self, kind: str, said: Said, before: Said | None) -> Iterator[str]:
        if said["stage"] not in _NEXT_STAGES[kind].get(before["stage"] if before else 0, ()):
            yield "is at a stage that does not follow the one before"
        if before is not None:
            yield from self._faults_of_changes(kind, said, before)
        faults = self._faults_of_hold if kind == "hold" else self._faults_of_erasure
        yield from faults(said, before)

    def _faults_of_hold(self, hold: Said, before: Said | None) -> Iterator[str]:
        if hold["is_repeated"] and hold["stage"] != _RELEASED:
            yield "is repeated, which a release alone is"
        if bool(hold["release_ticket"]) != (hold["stage"] != _PLACED):
            yield "has a ticket of its release before that, or none with it"
        if before is None or hold["is_repeated"]:
            return
        if before["stage"] == _PLACED:
            if hold["needs_approval"] != (hold["stage"] == _RELEASE_PROPOSED):
                yield "is released without the second person whom it asks for, or asks for none"
        elif hold["release_ticket"] != before["release_ticket"]:
            yield "has another ticket of its release than was proposed"

    def _faults_of_erasure(self, erasure: Said, before: Said | None) -> Iterator[str]:
        stage, rule_position = erasure["stage"], erasure["rule_position"]
        is_completed = stage == _COMPLETED
        if not is_completed and (erasure["files"] or erasure["counts"] != (0, 0)):
            yield "counts records or names files, and is not completed"
        if is_completed and erasure["counts"] != _counts(erasure["ranges"]):
            yield "counts other records than it covers"
        if erasure["is_repeated"] and stage not in (_REQUESTED, _COMPLETED):
            yield "is repeated, which one in effect alone is"
        if rule_position:
            rule = self._rules.get(rule_position)
            if rule is None or rule["is_withdrawn"] or not rule["keep_at_most_seconds"]:
                yield "names a rule's record by which nothing expires"
        if before is None:
            return
        if self._is_second_step("erasure", erasure, before):
            if not _is_within(erasure["ranges"], before["ranges"]):
                yield "covers something else than was proposed"
        elif (before["stage"], stage) != (_PROPOSED, _REQUESTED):
            if erasure["ranges"] != before["ranges"]:
                yield "covers something else than before"
            if erasure["is_repeated"] != before["is_repeated"]:
                yield "is repeated at one stage, and not at another"

    def _is_second_step(self, kind: str, said: Said, before: Said) -> bool:
        """Whether a record has to be a second person's, since the one before is a proposal."""
        if kind == "retention_rule" or said["is_repeated"]:
            return False
        return bool((before["stage"], said["stage"]) == _PROPOSALS[kind])

    def has_erasures(self) -> bool:
        """Whether anything is erased."""
        return any(
            entity[0] == "erasure" and said["stage"] in (_REQUESTED, _COMPLETED)
            for entity, (_, said) in self._newest.items()
        )

    def pending(self) -> List[int]:
        """The erasures whose content need not be destroyed yet."""
        return sorted(
            entity[1]
            for entity, (_, said) in self._newest.items()
            if entity[0] == "erasure" and said["stage"] == _REQUESTED
        )

    def repeated(self) -> List[str]:
        """The erasures and releases that a restoration has carried over."""
        return [
            f"erasure {number}" if kind == "erasure" else f"the release of hold {number}"
            for (kind, number), (_, said) in sorted(self._newest.items(), key=lambda one: one[0])
            if said.get("is_repeated")
        ]


def _counts(ranges: List[ErasedRange]) -> Tuple[int, int]:
    """Of how many records content is covered, and of how many who."""
    contents, whos = set[int](), set[int]()
    for given in ranges:
        positions = range(given.first, given.last + 1)
        contents.update(positions if given.content else ())
        whos.update(positions if given.who else ())
    return len(contents), len(whos)


def _is_within(requested: List[ErasedRange], proposed: List[ErasedRange]) -> bool:
    """Whether nothing is requested but what was proposed; some may have been erased since."""

    def parts(ranges: List[ErasedRange]) -> Dict[Tuple[Any, ...], set[int]]:
        found: Dict[Tuple[Any, ...], set[int]] = {}
        for given in ranges:
            positions = range(given.first, given.last + 1)
            if given.content:
                found.setdefault(("content", given.redacted), set()).update(positions)
            if given.who:
                found.setdefault(("who",), set()).update(positions)
        return found

    known = parts(proposed)
    return all(positions <= known.get(part, set()) for part, positions in parts(requested).items())


class Guard(NamedTuple):
    """A version of a hold or a rule: what it is about, and how many seconds a rule keeps that."""

    number: int
    position: int
    scope: Scope
    seconds: int
    needs_approval: bool
    ended: bool


class Guards:
    """Whether erasures have covered what was held or locked, or took a second person.

    docs/retention.md says what that is.

    What a filter had found is not known here: `filters` are the holds and rules that ask one.
    """

    def __init__(self) -> None:
        self.filters: set[str] = set()
        self._recorded_at: List[int] = []
        self._entities: List[Tuple[str, int]] = []
        self._type_ids: Dict[Tuple[str, int], int] = {}
        self._contexts: Dict[Tuple[str, int], set[int]] = {}
        self._made: Dict[Tuple[str, int], List[Tuple[str, int]]] = {}
        """By node, what is directly downstream of it."""
        self._ends: Dict[Tuple[str, int], List[Tuple[str, int]]] = {}
        self._guards: Dict[str, Dict[int, List[Guard]]] = {"hold": {}, "retention_rule": {}}

    def add(self, record: Record, content: Dict[str, Any] | None, said: Said | None) -> None:
        """Note a record; `said` is what one of a rule or hold says."""
        kind, entity = record["kind"], (record["kind"], record["entity_id"])
        self._recorded_at.append(record["recorded_at"])
        self._entities.append(entity)
        if kind in _NODE_FIELDS:
            self._type_ids[entity] = record["type_id"]
        elif kind in _LINK_FIELDS and content is not None:
            self._add_link(entity, content)
        elif kind in self._guards and said is not None:
            known = self._guards[kind].setdefault(record["entity_id"], [])
            known.append(self._guard(record, said))

    def _add_link(self, link: Tuple[str, int], content: Dict[str, Any]) -> None:
        nodes = [
            (kind, content[name])
            for name, kind in (
                *((f"{kind}_id", kind) for kind in _NODE_FIELDS),
                ("parent_context_id", "context"),
            )
            if name in _LINK_FIELDS[link[0]]
        ]
        self._ends[link] = nodes
        if link[0] == "event":
            artifact, execution = nodes
            source, made = artifact, execution
            if content["event_type"] not in _INPUTS:
                source, made = execution, artifact
            self._made.setdefault(source, []).append(made)
        elif link[0] != "parent_context":
            self._contexts.setdefault(nodes[0], set()).add(nodes[1][1])

    def _guard(self, record: Record, said: Said) -> Guard:
        if said["scope"].filter:
            self.filters.add(f"{record['kind'].replace('_', ' ')} {record['entity_id']}")
        is_hold = record["kind"] == "hold"
        return Guard(
            record["entity_id"],
            record["position"],
            said["scope"],
            0 if is_hold else said["keep_at_least_seconds"],
            said["needs_approval"],
            said["stage"] == _RELEASED if is_hold else said["is_withdrawn"],
        )

    def check(
        self, record: Record, covered: List[Tuple[int, Tuple[str, int], bool]], is_agreed: bool
    ) -> None:
        """Raise Refused when an erasure that takes effect covers what it may not.

        `is_agreed` tells whether two people have agreed to it.
        """
        for position, entity, _ in covered:
            said = self._held(entity) or self._locked(position, entity, record["recorded_at"])
            said = said or ("" if is_agreed else self._asked_for(position, entity))
            if said:
                raise Refused(
                    f"the erasure at position {record['position']} covers position {position}, "
                    f"{entity[0].replace('_', ' ')} {entity[1]}, which {said}"
                )

    def _held(self, entity: Tuple[str, int]) -> str:
        for versions in self._guards["hold"].values():
            current = versions[-1]
            if not current.ended and (
                self._is_in(current.scope, entity)
                or any(self._leads_to(current.scope, node) for node in self._nodes_of(entity))
            ):
                return f"hold {current.number} held, placed at position {versions[0].position}"
        return ""

    def _locked(self, position: int, entity: Tuple[str, int], now: int) -> str:
        for rule in self._about(position, entity):
            if self._recorded_at[position - 1] + rule.seconds * 1_000_000 > now:
                return f"retention rule {rule.number} locked, at position {rule.position}"
        return ""

    def _asked_for(self, position: int, entity: Tuple[str, int]) -> str:
        for rule in self._about(position, entity):
            if rule.needs_approval:
                return f"takes a second person by retention rule {rule.number}: nobody proposed it"
        return ""

    def _about(self, position: int, entity: Tuple[str, int]) -> Iterator[Guard]:
        """The versions of rules that a record of an entity was there in the time of."""
        for versions in self._guards["retention_rule"].values():
            for rule, following in zip(versions, [*versions[1:], None]):
                end = rule.position if rule.ended else following and following.position
                if (end is None or position < end) and self._is_in(rule.scope, entity):
                    yield rule

    def _nodes_of(self, entity: Tuple[str, int]) -> List[Tuple[str, int]]:
        """The nodes whose hold covers an entity: itself, a link's ends, or a type's nodes."""
        if entity in self._ends:
            return self._ends[entity]
        if not entity[0].endswith("_type"):
            return [entity]
        kind = entity[0][: -len("_type")]
        return [
            node
            for node, type_id in self._type_ids.items()
            if node[0] == kind and type_id == entity[1]
        ]

    def _leads_to(self, scope: Scope, node: Tuple[str, int]) -> bool:
        """Whether a node, or anything downstream of it, is in a scope."""
        reached, waiting = {node}, [node]
        while waiting:
            one = waiting.pop()
            if self._is_in(scope, one):
                return True
            further = [made for made in self._made.get(one, ()) if made not in reached]
            reached.update(further)
            waiting += further
        return False

    def _is_in(self, scope: Scope, entity: Tuple[str, int]) -> bool:
        kind, number = entity
        contexts = self._contexts.get(entity, set())
        if kind == "context":
            contexts = {number}
        elif entity in self._ends:
            contexts = {id_ for of, id_ in self._ends[entity] if of == "context"}
        type_id = number if kind.endswith("_type") else self._type_ids.get(entity)
        return (
            not scope.filter
            and (not scope.kinds or kind in scope.kinds)
            and (not scope.entities or entity in scope.entities)
            and (not scope.context_ids or not contexts.isdisjoint(scope.context_ids))
            and (not scope.type_ids or type_id in scope.type_ids)
        )


class History:
    """What relates records: each is compared with all that came before it."""

    def __init__(self) -> None:
        self._last: Record | None = None
        self._who: List[Any] | None = None
        self._newest: Dict[Tuple[str, int], Tuple[int, Any]] = {}
        self._held: Dict[Tuple[Any, ...], Tuple[str, int]] = {}
        self._keys: Dict[Tuple[str, int], List[Tuple[Any, ...]]] = {}
        self._types: Dict[int, Tuple[str, str | None]] = {}
        self._named_types: Dict[int, str | None] = {}
        self._salts: set[bytes] = set()
        self._waiting: Dict[Tuple[str, int], Tuple[str, List[Tuple[Any, ...]]]] = {}
        """What replacements bear that their own commit may replace again."""
        self.stages = Stages()
        self.erasures = Erasures()
        self.guards = Guards()

    def append(self, record: Record, content: Dict[str, Any] | None) -> None:
        """Add the next record. Raises Refused when no put could have written it."""
        kind, position = record["kind"], record["position"]
        entity, what = (kind, record["entity_id"]), f"the record at position {position}"
        if self._last is not None and record["commit"] != self._last["commit"]:
            self._hold_waiting()
        self._compare_with_last(record, what)
        is_replacement = self.erasures.add(record)
        for salt in (record["salt"], record["who_salt"]):
            if salt is not None:
                if salt in self._salts:
                    raise Refused(f"{what} has a salt for the second time")
                self._salts.add(salt)
        former, constant = self._newest.get(entity, (None, None))
        if record["previous"] != former:
            raise Refused(f"{what} replaces {record['previous']}, the former one is at {former}")
        if kind in _TYPE_FIELDS:
            self._add_type(record, content, what)
        stays = self._constant(record, content)
        # What a redacted version is replaced by may lack its name.
        is_passed = self._waiting.pop(entity, None) is not None
        known = [*stays[:1], ..., *stays[2:]] if is_replacement or is_passed else stays
        if former is not None and not _agree(constant or [], known):
            raise Refused(f"{what} changes the type, name, version or creation of {entity}")
        self._newest[entity] = position, stays
        self._let_go(entity)
        keys = [] if content is None else self._keys_of(record, content)
        if is_replacement:
            self._waiting[entity] = what, keys
        else:
            self._hold(entity, what, keys)
        said, before = self.stages.add(record) if kind in _NEVER_ERASED else (None, None)
        if kind == "erasure" and said is not None:
            covered = self.erasures.take_effect(record, said)
            self.guards.check(record, covered, before is not None or said["is_repeated"])
            for position, entity, is_content in covered:
                if is_content:
                    self._forget((position, entity))
        self.guards.add(record, content, said)
        if content is not None and kind in _NODE_FIELDS:
            self._compare_type(record, content, what)

    def finish(self) -> None:
        """All records are there. Raises Refused when one of them should have come after them."""
        self._hold_waiting()
        self.erasures.finish()

    def _hold_waiting(self) -> None:
        for entity, (what, keys) in self._waiting.items():
            self._hold(entity, what, keys)
        self._waiting = {}

    def _hold(self, entity: Tuple[str, int], what: str, keys: List[Tuple[Any, ...]]) -> None:
        for key in keys:
            if key in self._held:
                raise Refused(f"{what} bears {key}, which {self._held[key]} has already")
            self._held[key] = entity
        self._keys[entity] = keys

    def _let_go(self, entity: Tuple[str, int]) -> None:
        for key in self._keys.pop(entity, ()):
            del self._held[key]

    def _forget(self, erased: Tuple[int, Tuple[str, int]]) -> None:
        """A name is free, and nothing to compare with, once it is erased."""
        position, entity = erased
        newest, constant = self._newest[entity]
        if newest == position:
            self._let_go(entity)
            self._newest[entity] = position, [*constant[:1], ..., ..., ...]

    def _compare_with_last(self, record: Record, what: str) -> None:
        last = self._last or {"position": 0, "commit": 0, "recorded_at": 0}
        who = [record[name] for name in ("actor", "reason", "request_id")]
        if record["commit"] != last["commit"]:
            self._who = None
        if record["position"] != last["position"] + 1:
            raise Refused(f"position {last['position'] + 1} is missing: {what} comes next")
        if record["commit"] == last["commit"]:
            is_other = record["who_commitment"] is None and self._who not in (None, who)
            if is_other or record["recorded_at"] != last["recorded_at"]:
                raise Refused(f"{what} says otherwise when, who or why than its commit")
        elif record["commit"] != last["commit"] + 1:
            raise Refused(f"commit {last['commit'] + 1} is missing: {what} is of another one")
        if record["recorded_at"] < last["recorded_at"]:
            raise Refused(f"{what} was recorded before the one in front of it")
        self._last = record
        self._who = who if record["who_commitment"] is None else self._who

    def _add_type(self, record: Record, content: Dict[str, Any] | None, what: str) -> None:
        type_id = record["entity_id"]
        known = self._types.get(type_id)
        if known is None and type_id in self._named_types:
            raise Refused(f"{what} is a type, of which there were nodes before")
        if known is not None and known[0] != record["kind"]:
            raise Refused(f"{what} has the id of a type of another kind")
        name = None if content is None else content["name"]
        self._types[type_id] = record["kind"], name

    def _compare_type(self, record: Record, content: Dict[str, Any], what: str) -> None:
        type_id, name = record["type_id"], content["type"]
        # Also of a type that is missing or whose name is erased.
        if self._named_types.setdefault(type_id, name) != name:
            raise Refused(f"{what} names its type {name!r}, another node does not")
        if self._types and type_id not in self._types and name is not None:
            raise Refused(f"{what} names a type that does not exist")
        stored = self._types.get(type_id, ("", None))[1]
        if stored is not None and name != stored:
            raise Refused(f"{what} names its type {name!r}, which is {stored!r}")

    def _constant(self, record: Record, content: Dict[str, Any] | None) -> List[Any]:
        """What stays from one record of an entity to the next; `...` where it is not known."""
        if content is None:
            return [record["type_id"], ..., ..., ...]
        name = ... if record["kind"] == "context" else content["name"]
        return [record["type_id"], name, content["version"], content["create_time"]]

    def _keys_of(self, record: Record, content: Dict[str, Any]) -> List[Tuple[Any, ...]]:
        """What one entity at a time can have."""
        kind = record["kind"]
        if kind in _LINK_FIELDS:
            ends = [content[name] for name in _LINK_FIELDS[kind] if name != "event_time"]
            return [(kind, *ends)]
        keys: List[Tuple[Any, ...]] = []
        if content["external_id"]:
            among = kind if kind in _NODE_FIELDS else "type"
            keys.append(("external id", among, content["external_id"]))
        if content["name"] and kind in _NODE_FIELDS:
            keys.append(("name", kind, record["type_id"], content["name"]))
        return keys


def _agree(one: List[Any], other: List[Any]) -> bool:
    return all(a == b or a is ... or b is ... for a, b in zip(one, other))


def _time_text(micros: int) -> str:
    try:
        at = datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=micros)
    except OverflowError:
        raise Refused(f"{micros} microseconds since 1970 are no time") from None
    return at.isoformat(timespec="microseconds") + "Z"


def in_words(record: Record, content: Dict[str, Any] | None) -> str:
    """What was put, when, and by whom. Texts of the store's are quoted: they may hold anything."""
    words = f"{record['kind'].replace('_', ' ')} {record['entity_id']}"
    if content is None:
        words += ", whose content is not shown,"
    else:
        named = {name: content.get(name) for name in ("type", "name", "external_id", "uri")}
        if record["kind"] in _LINK_FIELDS:
            named = {name: content[name] for name in _LINK_FIELDS[record["kind"]]}
        told = [f"{name} {value!a}" for name, value in named.items() if value is not None]
        words += f" ({', '.join(told)})" if told else ""
    words += f" was recorded at {_time_text(record['recorded_at'])}"
    if record["who_commitment"] is not None:
        words += ", by whom is not shown"
    else:
        words += f" by {record['actor']!a}" if record["actor"] is not None else " by nobody named"
    for name in ("reason", "request_id"):
        if record[name] is not None:
            words += f", {name.replace('_', ' ')} {record[name]!a}"
    words += f", as position {record['position']} in commit {record['commit']}"
    if record["previous"] is not None:
        words += f" in place of position {record['previous']}"
    return words


# --- The commands


def verify_checkpoint(note: str, trust: Trust) -> str:
    """A line that says what holds."""
    stated = open_checkpoint(note, trust)
    return (
        f"{stated['signer']} signed on {stated['signed_at']}{stated['cosigned']}: "
        f"store {stated['store_id']} has "
        f"{stated['size']} records in {stated['commit']} commits, the last recorded on "
        f"{stated['recorded_at']}, root {stated['root'].hex()}"
    )


def split_proof(text: str) -> Tuple[bytes | None, int, List[bytes], str]:
    """c2sp.org/tlog-proof: extra data, index from 0, path, checkpoint."""
    lines, note = _before_empty_line(text)
    if lines.pop(0) != "c2sp.org/tlog-proof@v1":
        raise Refused("not a proof: it does not begin with c2sp.org/tlog-proof@v1")
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = _strict_base64(lines.pop(0)[len("extra ") :])
    if not lines:
        raise Refused("the proof has no index")
    return extra, _number(lines.pop(0), "index"), _path(lines), note


def verify_proof(text: str, trust: Trust) -> str:
    """A line that says what holds."""
    extra, index, path, note = split_proof(text)
    stated = open_checkpoint(note, trust)
    if extra is None:
        raise Refused("the proof has no record as its extra data")
    try:
        record = parse_record(load_json(extra.decode("utf-8") + "\n"))
    except UnicodeError:
        raise Refused("the proof's extra data is no text") from None
    leaf = leaf_hash(stated["store_id"], record)
    if index != record["position"] - 1:
        raise Refused("the proof is of another leaf than its record's")
    if root_from_inclusion(leaf, index, stated["size"], path) != stated["root"]:
        raise Refused("the record is not part of what was signed")
    content = check_record(record)
    at = _time_text(record["recorded_at"])
    ends = (stated["commit"], stated["recorded_at"])
    if record["commit"] > ends[0] or at > ends[1]:
        raise Refused("the record is of a later commit or time than the checkpoint states")
    if record["position"] == stated["size"] and (record["commit"], at) != ends:
        raise Refused("the checkpoint states another commit or time than its last record")
    return (
        f"{in_words(record, content)}: it is one of the {stated['size']} records "
        f"of store {stated['store_id']} that {stated['signer']} signed on {stated['signed_at']}"
        f"{stated['cosigned']}"
    )


def verify_consistency(text: str, older_note: str, trust: Trust) -> str:
    """A line that says what holds. The proof is a request of c2sp.org/tlog-witness."""
    lines, note = _before_empty_line(text)
    start, path = _number(lines.pop(0), "old"), _path(lines)
    older, newer = open_checkpoint(older_note, trust), open_checkpoint(note, trust)
    if older["store_id"] != newer["store_id"]:
        raise Refused("the checkpoints are of two stores")
    if start != older["size"]:
        raise Refused(f"the proof starts from {start} records, not from the older checkpoint's")
    check_consistency(older["size"], newer["size"], older["root"], newer["root"], path)
    return (
        f"the {newer['size']} records signed on {newer['signed_at']}{newer['cosigned']} begin "
        f"with the {older['size']} signed on {older['signed_at']}{older['cosigned']}"
    )


def verify_records(records: Iterable[Record], note: str, trust: Trust) -> str:
    """Compute the root over records in order, as far as a checkpoint reaches, and compare."""
    stated = open_checkpoint(note, trust)
    tree, history, signed, torn = Tree(), History(), None, ""
    rotations = trust.rotations if isinstance(trust, Policy) else ()
    rotated = {rotation.last["size"]: rotation for rotation in rotations}
    last: Record = {}
    try:
        for record in records:
            _expect_head(last, record["commit"])
            if signed is not None and record["commit"] == signed["commit"]:
                raise Refused("the checkpoint ends inside a commit")
            leaf = leaf_hash(stated["store_id"], record)
            content = check_record(record)
            columns = record.get("derived", {})
            for name in columns:
                erased: Any = [] if name.endswith("properties") else None
                expected = erased if content is None else content[name]
                if _to_the_bit(columns[name]) != _to_the_bit(expected):
                    raise Refused(
                        f"column {name} of position {record['position']} is not its content"
                    )
            history.append(record, content)
            tree.append(leaf)
            if tree.size in rotated:
                rotation = rotated.pop(tree.size)
                recorded_at = _time_text(record["recorded_at"])
                if _history(rotation.last) != (tree.root(), record["commit"], recorded_at):
                    raise Refused(f"the records are not those of {_rotation_words(rotation)}")
            if tree.size == stated["size"]:
                if tree.root() != stated["root"]:
                    raise Refused("the records are not those that were signed")
                signed = record
            if record.get("tree_head") is not None and record["tree_head"] != tree.root():
                raise Refused(f"the tree head of position {record['position']} is not its records'")
            last = record
        _expect_head(last, None)
    except Torn as error:
        if signed is None:
            raise
        torn = f"; what follows cannot be read, as after a write that was cut off: {error}"
    history.finish()
    if signed is None:
        raise Refused(f"{stated['size']} records were signed, there are {tree.size}")
    for size, rotation in rotated.items():
        raise Refused(f"{_rotation_words(rotation)} states {size} records, there are {tree.size}")
    recorded_at = _time_text(signed["recorded_at"])
    if (signed["commit"], recorded_at) != (stated["commit"], stated["recorded_at"]):
        raise Refused("the checkpoint states another commit or time than its last record")
    further = tree.size - stated["size"]
    found = (
        f"{'the first' if further else 'all'} {stated['size']} records, the last recorded on "
        f"{recorded_at}, are those that {stated['signer']} signed on {stated['signed_at']}"
        f"{stated['cosigned']}, and agree with each other"
    )
    if further:
        # Anybody who can write to the store or the file may have put them: no signature is on them.
        words = "record is" if further == 1 else "records are"
        found += f"; {further} further {words} not covered by the checkpoint"
    for number in history.stages.pending():
        found += f"; erasure {number} is not completed: what it covers may not be destroyed yet"
    for what in history.stages.repeated():
        found += f"; whether two people agreed to {what} is not checked: a restoration repeated it"
    if history.guards.filters and history.stages.has_erasures():
        guards = ", ".join(sorted(history.guards.filters))
        found += f"; whether the filter of {guards} had found what is erased is not checked"
    return found + torn


def _to_the_bit(value: Any) -> str:
    """The value as a text, in which a NaN is itself alone, and -0.0 is not 0.0."""
    if isinstance(value, list):
        value = [
            (name, {k: struct.pack("<d", v) if isinstance(v, float) else v for k, v in one.items()})
            if isinstance(one, dict)
            else (name, one)
            for name, one in value
        ]
    return repr(value)


def _expect_head(last: Record, following: int | None) -> None:
    """In a store the last record of each commit has a tree head, and no other."""
    if "tree_head" in last and (last["tree_head"] is None) != (last["commit"] == following):
        raise Refused(f"commit {last['commit']} does not have a tree head at its end alone")


# --- Published tiles

_BUNDLE_MOST = 256 * (2 + 65535)


def verify_tiles(source: str, trust: Trust, older_note: str | None = None) -> str:
    """Hash all entries that a folder or web server has, and compare them with tiles and root."""
    note = _published(source, "checkpoint", 2**20)
    stated = open_checkpoint(note.decode("utf-8"), trust)
    older = stated if older_note is None else open_checkpoint(older_note, trust)
    if older["store_id"] != stated["store_id"] or older["size"] > stated["size"]:
        raise Refused("what is published is of another store, or older than the older checkpoint")
    store_id = bytes.fromhex(stated["store_id"].replace("-", ""))
    rows: Dict[int, List[bytes]] = {}
    tree, last = Tree(), (0, 0)
    while tree.size < stated["size"]:
        index, width = tree.size // 256, min(256, stated["size"] - tree.size)
        name = tile_path("entries", index, width)
        entries = split_bundle(_published(source, name, _BUNDLE_MOST))[:width]
        hashes = [_sha256(b"\x00" + entry) for entry in entries]
        _compare_tile(source, 0, index, hashes, width)
        for entry, leaf in zip(entries, hashes):
            tree.append(leaf)
            last = _following(entry, store_id, tree.size, last)
            if tree.size == older["size"] and tree.root() != older["root"]:
                raise Refused("what is published does not begin with what was signed before")
        if width == 256:
            _add_head(source, rows, hashes, tree.size)
    if tree.root() != stated["root"]:
        raise Refused("the entries are not those that were signed")
    if (last[0], _time_text(last[1])) != (stated["commit"], stated["recorded_at"]):
        raise Refused("the checkpoint states another commit or time than its last entry")
    for level, row in rows.items():
        if row:
            _compare_tile(source, level, tree.size // 256 ** (level + 1), row, len(row))
    begins = "" if older is stated else f" and begin with the {older['size']} signed before"
    return (
        f"the {stated['size']} entries of store {stated['store_id']} that are published are those "
        f"that {stated['signer']} signed on {stated['signed_at']}"
        f"{stated['cosigned']}{begins}"
    )


def tile_path(level: str, index: int, width: int) -> str:
    """tile/<level>/<index in groups of three digits>, and how many there are unless it is full."""
    name = f"{index % 1000:03}"
    while index >= 1000:
        index //= 1000
        name = f"x{index % 1000:03}/{name}"
    return f"tile/{level}/{name}" + ("" if width == 256 else f".p/{width}")


def split_bundle(bundle: bytes) -> List[bytes]:
    """Entries, each after its length as two bytes."""
    entries: List[bytes] = []
    place = 0
    while place < len(bundle):
        if place + 2 > len(bundle) or len(entries) == 256:
            raise Refused("not a bundle of entries")
        end = place + 2 + int.from_bytes(bundle[place : place + 2], "big")
        entries.append(bundle[place + 2 : end])
        place = end
    if place > len(bundle):
        raise Refused("a bundle of entries is cut off")
    return entries


def _following(
    entry: bytes, store_id: bytes, position: int, last: Tuple[int, int]
) -> Tuple[int, int]:
    """Commit and time of an entry, which begins with its store's id and its position."""
    if len(entry) < 40 or entry[:24] != store_id + struct.pack(">q", position):
        raise Refused(f"the entry of position {position} is of another place or store")
    commit, at = struct.unpack(">qq", entry[24:40])
    if commit not in (last[0], last[0] + 1) or commit < 1 or (position > 1 and at < last[1]):
        raise Refused(f"the entry of position {position} does not follow the one before")
    return commit, at


def _add_head(source: str, rows: Dict[int, List[bytes]], hashes: List[bytes], size: int) -> None:
    """Add the head of a full tile to the level above, and compare what is full there."""
    level = 0
    while len(hashes) == 256:
        subtree = Tree()
        for one in hashes:
            subtree.append(one)
        level += 1
        rows.setdefault(level, []).append(subtree.root())
        hashes = rows[level]
        if len(hashes) == 256:
            _compare_tile(source, level, size // 256 ** (level + 1) - 1, hashes, 256)
            rows[level] = []


def _compare_tile(source: str, level: int, index: int, hashes: List[bytes], width: int) -> None:
    name = tile_path(str(level), index, width)
    content = _published(source, name, 8192)
    if (
        len(hashes) < width
        or content[: 32 * width] != b"".join(hashes)
        or len(content) not in (32 * width, 8192)
    ):
        raise Refused(f"{name} is not the tile that the entries give")


def _published(source: str, name: str, most: int) -> bytes:
    """A file that is published; a full tile may stand for a partial one that was removed."""
    for path in dict.fromkeys((name, name.partition(".p/")[0])):
        try:
            if re.match("https?://", source, re.IGNORECASE):
                content = _fetched(f"{source.rstrip('/')}/{path}", most)
            else:
                content = _stored_bytes(pathlib.Path(source) / path, most + 1)
        except FileNotFoundError:
            continue
        if len(content) > most:
            raise Refused(f"{path} has more than {most} bytes")
        return content
    if "://" not in source and not os.path.isdir(source):
        raise CannotCheck(f"there is no folder {source}")
    raise Refused(f"{source} lacks {name}")


_SECONDS_MAX = 120.0


def _fetched(address: str, most: int) -> bytes:
    """What a web server has there. In a thread, since a server may send a byte now and then."""
    parts = urllib.parse.urlsplit(address)
    if "@" in parts.netloc or parts.query or parts.fragment or not parts.netloc.isascii():
        raise CannotCheck("the address has a password, query or host beyond ASCII: leave it out")
    address = urllib.parse.urlunsplit(parts._replace(path=urllib.parse.quote(parts.path, "/%~")))
    found: List[Union[bytes, Exception]] = []

    def fetch() -> None:
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                content = bytes(answer.read(most + 1))
                if answer.length and len(content) <= most:
                    raise ValueError("it was cut off by the network")
                encoding = answer.headers.get("Content-Encoding", "identity")
                if encoding != "identity":
                    raise ValueError(f"it is encoded as {encoding}: have it served as it is")
                found.append(content)
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(_SECONDS_MAX)
    result = found[0] if found else TimeoutError(f"not done after {_SECONDS_MAX} seconds")
    if isinstance(result, bytes):
        return result
    if isinstance(result, urllib.error.HTTPError):
        result.close()
        if result.code in (404, 410):
            raise FileNotFoundError(address)
        raise CannotCheck(f"{address} answers {result.code}")
    raise CannotCheck(f"{address} cannot be read: {result}")


def exported_records(path: str) -> Iterator[Record]:
    """The records in a file that `eventstore export` wrote."""
    with open(path, encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield parse_record(load_json(line))


def stored_records(directory: str) -> Iterator[Record]:
    """The records in a copy of a store. Needs pyarrow, to read the files and for nothing else."""
    root = pathlib.Path(directory)
    before = _manifest(root)
    inside = sorted((root / "log").iterdir())
    # A writer that has gone on since names files that the first manifest does not know.
    manifest = _manifest(root)
    active = manifest["active"]
    _refuse_strays(root, inside, [before, manifest])
    position = number = 0
    spare = _replaced_forms(inside, manifest)
    for segment in [*manifest["segments"], active]:
        first_number, number = number + 1, _last_number(segment, number + 1)
        path, said = _file_of(root, manifest, number, segment), json.dumps(segment)
        records = segment_records(
            path,
            torn=f"{number:010}.arrows" if segment is active else "",
            manifest=manifest,
            first_position=position + 1,
        )
        # A sealing or an erasure that stopped half-way leaves several forms, with the same leaves.
        for other in inside:
            is_form = _SEGMENT.fullmatch(other.name) and int(other.name[:10]) == number
            if other != path and is_form and other not in spare:
                other_records = segment_records(
                    other, manifest=manifest, first_position=position + 1
                )
                records = _both(records, other_records, other, path, manifest["store_id"])
        first = last = None
        for record in records:
            first, last = first or record, record
            for other, others in spare.items():
                _compare_with_spare(record, other, others, manifest["store_id"])
            yield record
        if segment is active:
            found = _active_entry(path, number, position + 1)
        elif first is None or last is None:
            raise Refused(f"{path} has no records")
        else:
            found, position = _entry(path, segment, first, last), last["position"]
            if "first_number" in segment:
                found["first_number"] = first_number
        if said != json.dumps(found):
            raise Refused(f"the manifest says of segment {number} what is not so")
    for other, others in spare.items():
        if others:
            raise Refused(f"{other} holds other records than the log")


def _last_number(segment: Dict[str, Any], first: int) -> int:
    """The number of a segment; another one than the next that may be is one that was merged."""
    if "first_number" not in segment:
        return first
    number, replaced = segment.get("number"), segment.get("rewritten_from")
    # It has taken the place of a file for each number at least.
    if (
        type(number) is not int
        or segment.get("sealed") is not True
        or not isinstance(replaced, list)
        or not first < number <= first + len(replaced) - 1
    ):
        raise Refused(f"the manifest says of segment {number} what cannot be")
    return number


def _forms_of(name: str, manifest: Dict[str, Any]) -> bool:
    """Whether a compaction may have left a file of this name: one that was merged, or is to be."""
    found = _SEGMENT.fullmatch(name)
    if found is None or name.endswith(".arrows"):
        return False
    number, form = int(found[1]), int(found[2] or 1)
    files = 0
    for segment in reversed(manifest["segments"]):
        forms = len(segment.get("rewritten_from", ())) + 1
        last = segment["number"]
        if segment.get("first_number", last + 1) <= number <= last and form < forms:
            return True
        # Of neighbours that end here: the merged file counts all of theirs.
        files = files + forms if files or last == number else 0
        if files > forms and files + 1 == form:
            return True
    return False


def _replaced_forms(
    inside: List[pathlib.Path], manifest: Dict[str, Any]
) -> Dict[pathlib.Path, List[Tuple[Record, Iterator[Record]]]]:
    """What compactions have left: of each file the next record and those after it, or nothing."""
    named = [segment.get("file") for segment in manifest["segments"]]
    spare: Dict[pathlib.Path, List[Tuple[Record, Iterator[Record]]]] = {}
    for path in inside:
        if path.name not in named and _forms_of(path.name, manifest):
            records = segment_records(path, manifest=manifest)
            for record in records:
                spare[path] = [(record, records)]
                break
    return spare


def _compare_with_spare(
    record: Record,
    path: pathlib.Path,
    others: List[Tuple[Record, Iterator[Record]]],
    store_id: str,
) -> None:
    """Compare a record with the one that a file has left of it, if it has."""
    if not others or others[0][0]["position"] != record["position"]:
        return
    other, following = others.pop()
    if leaf_hash(store_id, other) != leaf_hash(store_id, record):
        raise Refused(f"{path} does not hold the same records as the log")
    content, who = record.get("kept", (False, False))
    record["kept"] = content or other["salt"] is not None, who or other["who_salt"] is not None
    for further in following:
        if further["position"] != record["position"] + 1:
            raise Refused(f"{path} does not hold the same records as the log")
        others.append((further, following))
        break


_SEGMENT = re.compile("([0-9]{10})(?:\\.arrows|(?:-([2-9]|[1-9][0-9]{1,9}))?\\.parquet)")
_TEMPORARY = re.compile("(manifest\\.json|[0-9]{10}\\.(arrows|parquet))\\..+\\.tmp")
_TOP = {"manifest.json": False, "lock": False, "sealing.lock": False, "log": True}
"""What lies in a store's folder, apart from its caches; True for a folder."""


def _manifest(root: pathlib.Path) -> Dict[str, Any]:
    """The manifest, in the one form that is written; what it says of segments is compared later."""
    path = root / "manifest.json"
    try:
        text = _stored_bytes(path).decode("utf-8")
        stored = json.loads(text)
        version = int(stored["format_version"])
        if version not in (_FORMAT_VERSION, _COMPACTED_VERSION):
            raise CannotCheck(
                f"{path} has format version {version}, not {_FORMAT_VERSION} or "
                f"{_COMPACTED_VERSION}"
            )
        manifest = stored["manifest"]
        body = json.dumps(manifest, separators=(",", ":"), ensure_ascii=False)
        head = f'"format_version":{version},"sha256":"{_sha256(body.encode()).hex()}"'
        is_one = (
            text == f'{{{head},"manifest":{body}}}\n'
            and list(manifest) == "store_id created_at generation segments active".split()
            and type(manifest["created_at"]) is type(manifest["generation"]) is int
            and 0 <= manifest["created_at"] <= _LATEST
            and 0 < manifest["generation"] < 2**63
            and _STORE_ID.fullmatch(manifest["store_id"])
            and isinstance(manifest["segments"], list)
            and all(isinstance(e, dict) for e in [*manifest["segments"], manifest["active"]])
            and all(type(e.get("number")) is int for e in manifest["segments"])
            and all(isinstance(e.get("rewritten_from", []), list) for e in manifest["segments"])
            and any("first_number" in e for e in manifest["segments"])
            is (version == _COMPACTED_VERSION)
        )
    except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
        is_one = False
    if not is_one:
        raise Refused(f"{path} is not the manifest of a store, or does not match its SHA-256")
    return dict(manifest)


def _file_of(
    root: pathlib.Path, manifest: Dict[str, Any], number: int, segment: Dict[str, Any]
) -> pathlib.Path:
    """The file of a segment, which must have the name that the manifest gives, and be there."""
    try:
        rewritten = segment.get("rewritten_from", [])
        rewriting = f"-{len(rewritten) + 1}" if rewritten else ""
        end = f"{rewriting}.parquet" if segment.get("sealed") is True else ".arrows"
        if segment["file"] != f"{number:010}{end}" or not _are_hashes(rewritten):
            raise LookupError
    except (LookupError, TypeError, AttributeError):
        raise Refused(f"the manifest says of segment {number} what cannot be") from None
    path = root / "log" / f"{number:010}{end}"
    if not os.path.lexists(path):
        if _manifest(root) != manifest:
            raise CannotCheck("the store is in use: check a copy that `eventstore backup` made")
        raise Refused(f"{path}, which the manifest names, is missing")
    return path


def _entry(
    path: pathlib.Path, segment: Dict[str, Any], first: Record, last: Record
) -> Dict[str, Any]:
    """What the manifest has to say of a closed or sealed segment."""
    content, heads = _stored_bytes(path), segment.get("frontier")
    tree = Tree()
    # Of the tree of n leaves there is a complete subtree for each 1 in the binary form of n.
    if not _are_hashes(heads) or len(heads or ()) != bin(last["position"]).count("1"):
        raise Refused(f"the manifest does not say what the tree is at the end of {path}")
    tree._heads = [bytes.fromhex(head) for head in heads or ()]
    found = {
        "number": int(path.name[:10]),
        "sealed": path.suffix == ".parquet",
        "file": path.name,
        "file_bytes": len(content),
        "file_sha256": _sha256(content).hex(),
    }
    for name in ("position", "commit", "recorded_at"):
        found.update({f"first_{name}": first[name], f"last_{name}": last[name]})
    # The last record's head is compared with the records.
    is_tree = tree.root() == last["tree_head"]
    found.update(tree_head=tree.root().hex() if is_tree else None, frontier=heads)
    if "rewritten_from" in segment:
        found["rewritten_from"] = segment["rewritten_from"] or None
    return found


def _active_entry(path: pathlib.Path, number: int, first_position: int) -> Dict[str, Any]:
    content = _stored_bytes(path)
    header = content[: 8 + int.from_bytes(content[4:8], "little")]
    return {
        "number": number,
        "file": path.name,
        "header_bytes": len(header),
        "header_sha256": _sha256(header).hex(),
        "first_position": first_position,
    }


def _are_hashes(texts: Any) -> bool:
    """Whether these are SHA-256 in lower-case hexadecimal."""
    return isinstance(texts, list) and all(
        isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", text) for text in texts
    )


def _stored_bytes(path: pathlib.Path, most: int = -1) -> bytes:
    """What is in a file of a store; one would wait for ever for a pipe that nobody writes to."""
    if path.exists() and not path.is_file():
        raise Refused(f"{path} is not a file")
    with open(path, "rb") as file:
        return file.read(most)


def _refuse_strays(
    root: pathlib.Path, inside: List[pathlib.Path], manifests: List[Dict[str, Any]]
) -> None:
    """FORMAT.md: nothing else lies in the store's folders, since others could read it, too."""
    for path in sorted(root.iterdir()):
        is_folder = path.is_dir() and not path.is_symlink()
        if path.name == "projections" or _TEMPORARY.fullmatch(path.name):
            continue
        is_other = path.exists() and not (is_folder or path.is_file())
        if is_other or _TOP.get(path.name) is not is_folder:
            raise Refused(f"{path} belongs to nothing: it is not a file or folder of a store")
    closed = {segment.get("number"): segment for segment in manifests[-1]["segments"]}
    following = manifests[-1]["active"].get("number")
    for path in inside:
        if path.exists() and not path.is_file():
            raise Refused(f"{path} belongs to nothing: it is not a file")
        if path.name in ("acknowledged", "commit-ends") or _TEMPORARY.fullmatch(path.name):
            continue
        if any(
            path.name == segment.get("file")
            for manifest in manifests
            for segment in [*manifest["segments"], manifest["active"]]
        ):
            continue
        form = _SEGMENT.fullmatch(path.name)
        if _forms_of(path.name, manifests[-1]):
            continue
        if form is not None and int(form[1]) in closed:
            # The next form of a segment, or one before.
            forms = len(closed[int(form[1])].get("rewritten_from", ())) + 2
            if int(form[2] or 1) <= forms:
                continue
        # A rotation writes the header of the next segment before the manifest names it.
        is_next = isinstance(following, int) and path.name == f"{following + 1:010}.arrows"
        if is_next and next(segment_records(path), None) is None:
            continue
        if os.path.lexists(path):
            raise Refused(f"{path} belongs to nothing: the manifest does not name it")


def _both(
    records: Iterator[Record],
    others: Iterator[Record],
    form: pathlib.Path,
    path: pathlib.Path,
    store_id: str,
) -> Iterator[Record]:
    """The records of a segment, once each is compared with that in another form of it."""
    for record in records:
        other = next(others, None)
        if other is None or leaf_hash(store_id, other) != leaf_hash(store_id, record):
            raise Refused(f"{form} does not hold the same records as {path}")
        content, who = record.get("kept", (False, False))
        record["kept"] = content or other["salt"] is not None, who or other["who_salt"] is not None
        yield record
    if next(others, None) is not None:
        raise Refused(f"{form} holds more records than {path}")


def segment_records(
    path: pathlib.Path,
    torn: str = "",
    manifest: Dict[str, Any] | None = None,
    first_position: int = 0,
) -> Iterator[Record]:
    """The records of a file, with `tree_head`; of a Parquet file also the derived columns.

    The file named `torn` may end in a write that was cut off: Torn is raised there. A file that
    says it is of another store than the manifest, another place or format is refused.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise CannotCheck("to read a store's files needs pyarrow: pip install pyarrow") from None
    content = _stored_bytes(path)
    is_sealed = path.suffix == ".parquet"
    try:
        if is_sealed:
            file = pyarrow.parquet.ParquetFile(
                pyarrow.py_buffer(content), page_checksum_verification=True
            )
            batches = file.iter_batches()
            # Readers go by Arrow's schema or by Parquet's own.
            inner = base64.b64decode((file.metadata.metadata or {}).get(b"ARROW:schema", b""))
            schema = pyarrow.ipc.read_schema(pyarrow.py_buffer(inner))
            if (
                not file.schema_arrow.equals(schema)
                or file.schema_arrow.metadata != schema.metadata
            ):
                raise Refused(f"{path} has two schemas")
        else:
            reader = pyarrow.BufferReader(content)
            schema = pyarrow.ipc.read_schema(pyarrow.ipc.read_message(reader))
            batches = _messages(path, content, reader, schema, path.name == torn)
        if not schema.remove_metadata().equals(_schema(pyarrow, is_sealed), check_metadata=True):
            raise Refused(f"{path} has other columns than a segment")
        if manifest is not None:
            _compare_metadata(path, schema.metadata or {}, manifest["store_id"], first_position)
        names = [*_MEMBERS, "tree_head", *(_DERIVED if is_sealed else ())]
        erased = [] if is_sealed else ["commitment", "who_commitment"]
        for batch in batches:
            # What does not hold what Arrow relies on would be read from anywhere in memory.
            batch.validate(full=True)
            times = batch.column("recorded_at").cast(pyarrow.int64()).to_pylist()
            columns: Dict[str, List[Any]] = {"recorded_at": times}
            columns.update({name: [None] * batch.num_rows for name in erased})
            for name in names:
                columns[name] = columns.get(name) or batch.column(name).to_pylist()
            for row in zip(*(columns[name] for name in names)):
                record = dict(zip(names[: len(_MEMBERS) + 1], row))
                if is_sealed:
                    record["derived"] = dict(zip(_DERIVED, row[len(_MEMBERS) + 1 :]))
                yield record
    except (pyarrow.ArrowException, OSError, EOFError, ValueError, LookupError) as error:
        refused = Torn if path.name == torn else Refused
        raise refused(f"{path} is not a segment that can be read: {error}") from None


def _schema(pyarrow: Any, is_sealed: bool) -> Any:
    """FORMAT.md, "The columns of files"."""
    integer, text, binary = pyarrow.int64(), pyarrow.utf8(), pyarrow.binary()
    types = {
        "double_value": pyarrow.float64(),
        "bool_value": pyarrow.bool_(),
        "recorded_at": pyarrow.timestamp("us", "UTC"),
        "state": pyarrow.int32(),
        "event_type": pyarrow.int32(),
    }
    types.update({name: pyarrow.binary(16) for name in ("salt", "who_salt")})
    types.update({name: pyarrow.binary(32) for name in ("commitment", "who_commitment")})
    types.update(dict.fromkeys("payload tree_head checksum proto_value".split(), binary))
    types.update(dict.fromkeys("kind actor reason request_id name external_id".split(), text))
    types.update(dict.fromkeys("version uri string_value struct_value".split(), text))
    members = [(name, types.get(name, integer)) for name in _COLUMN_MEMBERS]
    properties = pyarrow.map_(text, pyarrow.struct(members))
    types.update(properties=properties, custom_properties=properties)
    ends = "salt commitment payload who_salt who_commitment tree_head".split()
    names = [*_MEMBERS[:10], *_DERIVED, *ends]
    if not is_sealed:
        names = [*_MEMBERS[:12], "who_salt", "tree_head", "checksum"]
    never_null = "position commit recorded_at kind entity_id".split()
    return pyarrow.schema(
        [pyarrow.field(name, types.get(name, integer), name not in never_null) for name in names]
    )


def _messages(
    path: pathlib.Path, content: bytes, reader: Any, schema: Any, is_active: bool
) -> Iterator[Any]:
    """The batches of a stream, one for each commit, once the checksum of each was compared."""
    import pyarrow

    count = 0
    while True:
        start = reader.tell()
        beginning = content[start : start + 8]
        if beginning in (b"", _END_OF_STREAM) or not content[start:].strip(b"\0"):
            break
        if not b"\xff\xff\xff\xff".startswith(beginning[:4]):
            raise Refused(f"{path} has bytes after its commits that are no part of one")
        message = pyarrow.ipc.read_message(reader)
        written = content[start : reader.tell()]
        if _sha256(written[:-32] + bytes(32)) != written[-32:]:
            raise ValueError(f"what starts at byte {start} does not match its checksum")
        batch = pyarrow.ipc.read_record_batch(message, schema)
        batch.validate(full=True)
        for name in ("tree_head", "checksum"):
            is_last = [False] * (batch.num_rows - 1) + [True]
            if batch.column(name).is_valid().to_pylist() != is_last:
                raise ValueError(f"what starts at byte {start} is not one commit")
        count += 1
        yield batch
    if not is_active and content[start:] != (_END_OF_STREAM if count else b""):
        raise Refused(f"{path} does not end where its commits do")


_END_OF_STREAM = b"\xff\xff\xff\xff" + bytes(4)


def _before_empty_line(text: str) -> Tuple[List[str], str]:
    lines, separator, note = text.partition("\n\n")
    if not separator:
        raise Refused("not a proof: lines, an empty line and a checkpoint")
    return lines.split("\n"), note


def _compare_metadata(
    path: pathlib.Path, said: Dict[bytes, bytes], store_id: str, first_position: int
) -> None:
    expected = {
        "eventstore.format_version": str(_FORMAT_VERSION),
        "eventstore.store_id": store_id,
        "eventstore.segment": str(int(path.name[:10])),
    }
    if path.suffix == ".arrows":
        expected["eventstore.first_position"] = str(first_position)
    for name, value in expected.items():
        if said.get(name.encode()) != value.encode():
            raise Refused(f"{path} does not say that its {name} is {value}")
    if len(said) > len(expected):
        raise Refused(f"{path} says more of itself than what belongs there")


def _number(line: str, word: str) -> int:
    found = re.fullmatch(f"{word} (0|[1-9][0-9]{{0,18}})", line)
    if found is None or int(found[1]) >= 2**63:
        raise Refused(f"not `{word}` and a number: {line[:100]!r}")
    return int(found[1])


def _path(lines: List[str]) -> List[bytes]:
    if len(lines) > 63:
        raise Refused("a path has at most 63 hashes")
    path = [_strict_base64(line) for line in lines]
    if any(len(node) != 32 for node in path):
        raise Refused("a hash has 32 bytes")
    return path


def main(arguments: List[str]) -> int:
    """Run one command; the exit code."""
    counts = {"checkpoint": 3, "proof": 3, "consistency": 4, "records": 4, "store": 4, "tiles": 3}
    if arguments in (["-h"], ["--help"]):
        return _answered(__doc__ or "", 0)
    rotations = []
    while "--rotation" in arguments[:-1]:
        at = arguments.index("--rotation")
        rotations.append(arguments[at + 1])
        arguments = arguments[:at] + arguments[at + 2 :]
    has_older = arguments[:1] == ["tiles"] and len(arguments) == 4
    if not arguments or counts.get(arguments[0]) != len(arguments) - has_older:
        usage = (
            "checkpoint|proof FILE KEY, consistency|records|store FILE CHECKPOINT KEY, or "
            "tiles SOURCE [OLDER-CHECKPOINT] KEY; and --rotation FILE, each"
        )
        return _answered(f"CANNOT CHECK: the arguments are {usage}", 2)
    command, subject, *rest = arguments

    def read(path: str) -> str:
        return pathlib.Path(path).read_bytes().decode("utf-8")

    def trusted(path: str) -> Trust:
        # Names and comments of a policy may be in any encoding.
        text = pathlib.Path(path).read_bytes().decode("utf-8", "backslashreplace")
        try:
            return parse_trust(text)
        except Refused as error:
            raise CannotCheck(f"{path} is no key or policy: {error}") from None

    try:
        trust = with_rotations(trusted(rest[-1]), [read(path) for path in rotations])
        if command == "checkpoint":
            found = verify_checkpoint(read(subject), trust)
        elif command == "proof":
            found = verify_proof(read(subject), trust)
        elif command == "consistency":
            found = verify_consistency(read(subject), read(rest[0]), trust)
        elif command == "tiles":
            found = verify_tiles(subject, trust, read(rest[0]) if has_older else None)
        else:
            records = exported_records(subject) if command == "records" else stored_records(subject)
            found = verify_records(records, read(rest[0]), trust)
    except (Refused, UnicodeError) as error:
        return _answered(f"REFUSED: {_shown(error)}", 1)
    except (CannotCheck, OSError, MemoryError) as error:
        return _answered(f"CANNOT CHECK: {_shown(error)}", 2)
    return _answered(f"holds: {_shown(found)}", 0)


def _shown(said: object) -> str:
    """One line of ASCII. Names and what servers answer may hold what a terminal would obey."""
    line = " ".join(str(said).split())
    return "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode() for c in line)


def _answered(text: str, code: int) -> int:
    """Print the answer, and return its exit code: 2 where it cannot be written."""
    stream = sys.stderr if code == 2 else sys.stdout
    try:
        if stream is None:
            raise OSError("it is closed")
        print(text, file=stream, flush=True)
        return code
    except OSError as error:
        if code == 2:
            return 2
        if stream is not None:  # Python would write what is left at its end, and fail
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return _answered(f"CANNOT CHECK: the answer cannot be written: {_shown(error)}", 2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
