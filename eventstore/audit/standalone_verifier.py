#!/usr/bin/env python3
"""Check what a metadata store has proved, without the store and without trusting its code.

This file stands alone: it needs Python 3.9 and its standard library, and pyarrow only to read a
store's own files. Copy it, read it, run it:

  python standalone_verifier.py checkpoint FILE KEY
  python standalone_verifier.py proof FILE KEY
  python standalone_verifier.py records FILE CHECKPOINT KEY
  python standalone_verifier.py store DIRECTORY CHECKPOINT KEY

KEY is a file with the verifier key of the signer, which you have got from the signer, not from the
store. `records` takes what `eventstore export` writes, `store` a copy of the store's directory.
Exit code 0: it holds. 1: it does not, and the line printed says why. 2: wrong usage.

What is checked, and where it is laid down:
  signed notes        c2sp.org/signed-note; Ed25519 is RFC 8032
  checkpoints         c2sp.org/tlog-checkpoint, and FORMAT.md, "Checkpoints and proofs"
  Merkle tree         RFC 6962, section 2.1; the algorithms are those of RFC 9162, section 2.1
  leaves of the tree  FORMAT.md, "The proof"
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import pathlib
import re
import struct
import sys
from typing import Any, Dict, Iterable, Iterator, Tuple

Point = Tuple[int, int, int, int]
"""X, Y, Z, T."""
Key = Tuple[str, bytes, bytes]
"""Name, key id, public key."""
Record = Dict[str, Any]


class Refused(Exception):
    """What was to be verified does not hold, or is not what it is said to be."""


# --- Ed25519, RFC 8032, section 5.1: verification alone, so nothing here is secret

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, _P - 2, _P) % _P
_SQRT_M1 = pow(2, (_P - 1) // 4, _P)


def _decode_point(encoded: bytes) -> Point | None:
    """Section 5.1.3: a point as (X, Y, Z, T), or None."""
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= _P:
        return None
    x2 = (y * y - 1) * pow(_D * y * y + 1, _P - 2, _P) % _P
    x = pow(x2, (_P + 3) // 8, _P)
    if (x * x - x2) % _P:
        x = x * _SQRT_M1 % _P
    if (x * x - x2) % _P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = _P - x
    return (x, y, 1, x * y % _P)


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


def _strict_point(encoded: bytes) -> Point | None:
    """The point, unless its order divides 8: a key of such an order fits any text."""
    point = _decode_point(encoded)
    if point is None:
        return None
    x, y, z, _ = _multiply(8, point)
    return None if x == 0 and y == z else point


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


def parse_key(text: str) -> Key:
    """(name, key id, public key) of `name+id+base64(0x01 || public key)`."""
    name, plus, rest = text.strip().partition("+")
    key_id, second_plus, encoded = rest.partition("+")
    if not (name and plus and second_plus):
        raise Refused("the key is not of the form name+id+key")
    key = _strict_base64(encoded)
    if len(key) != 33 or key[0] != 1:
        raise Refused("the key is not one for Ed25519")
    expected = hashlib.sha256(name.encode() + b"\n" + key).digest()[:4]
    if expected.hex() != key_id:
        raise Refused("the key does not have its id")
    if _strict_point(key[1:]) is None:
        raise Refused("the key is no point, or one of small order: anybody could sign for it")
    return name, expected, key[1:]


def open_note(note: str, key: Key) -> str:
    """The text of a note, once this key's signature of it is verified."""
    if any(ord(character) < 32 and character != "\n" for character in note):
        raise Refused("the note has control characters")
    text, separator, signatures = note.rpartition("\n\n")
    if not separator or not signatures.endswith("\n"):
        raise Refused("not a signed note: text, an empty line, signature lines")
    text += "\n"
    name, key_id, public_key = key
    is_signed = False
    for line in signatures[:-1].split("\n"):
        found = re.fullmatch("\u2014 ([^ +]+) ([A-Za-z0-9+/]+={0,2})", line)
        if found is None:
            raise Refused(f"not a signature line: {line!r}")
        signed = _strict_base64(found[2])
        if found[1] != name or signed[:4] != key_id:
            continue  # by another key, of which nothing is known here
        if not ed25519_verifies(public_key, signed[4:], text.encode()):
            raise Refused(f"the signature by {name} is not of this text")
        is_signed = True
    if not is_signed:
        raise Refused(f"not signed by {name}")
    return text


_CHECKPOINT = re.compile(
    "eventstore/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\n"
    "([1-9][0-9]*)\n"
    "([A-Za-z0-9+/]{43}=)\n"
    "commit ([1-9][0-9]*)\n"
    "recorded-at ([0-9-]{10}T[0-9:.]{15}Z)\n"
    "signed-at ([0-9-]{10}T[0-9:.]{15}Z)\n"
)


def open_checkpoint(note: str, key: Key) -> dict[str, Any]:
    """What a checkpoint states, as a dictionary, once its signature is verified."""
    found = _CHECKPOINT.fullmatch(open_note(note, key))
    if found is None:
        raise Refused("signed, but not a checkpoint of a store")
    return {
        "store_id": found[1],
        "size": int(found[2]),
        "root": _strict_base64(found[3]),
        "commit": int(found[4]),
        "recorded_at": found[5],
        "signed_at": found[6],
    }


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
        if not self._heads:
            return _sha256(b"")
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

_KINDS = (
    "artifact_type execution_type context_type artifact execution context "
    "event attribution association parent_context"
).split()
_MEMBERS = (
    "position commit recorded_at kind entity_id type_id previous "
    "actor reason request_id salt payload commitment"
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
        leaf = bytes.fromhex(store_id.replace("-", ""))
        leaf += struct.pack(">qqq", record["position"], record["commit"], record["recorded_at"])
        leaf += struct.pack(">Bq", _KINDS.index(record["kind"]) + 1, record["entity_id"])
        for number in (record["type_id"], record["previous"]):
            leaf += struct.pack(">Bq", number is not None, number or 0)
        for text in (record["actor"], record["reason"], record["request_id"]):
            if text is None:
                leaf += b"\x00"
            else:
                encoded = text.encode()
                leaf += b"\x01" + struct.pack(">I", len(encoded)) + encoded
    except (struct.error, TypeError, AttributeError, UnicodeError) as error:
        raise Refused(f"a record cannot be one: {error}") from None
    return _sha256(b"\x00" + leaf + commitment)


def parse_record(members: Any) -> Record:
    """A record of JSON, its bytes decoded."""
    if not isinstance(members, dict) or list(members) != _MEMBERS:
        raise Refused("not a record: its members are " + ", ".join(_MEMBERS))
    if any(isinstance(value, (bool, float)) for value in members.values()):
        raise Refused("a record has whole numbers, texts and nulls alone")
    record = dict(members)
    for name in ("salt", "payload", "commitment"):
        if record[name] is not None:
            if not isinstance(record[name], str):
                raise Refused(f"{name} is base64")
            record[name] = _strict_base64(record[name])
    return record


def load_json(text: str) -> Any:
    """JSON that is written in the one way which FORMAT.md lays down, in one line."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise Refused(f"not JSON: {error}") from None
    if json.dumps(document, separators=(",", ":"), ensure_ascii=False) + "\n" != text:
        raise Refused("not JSON as the store writes it")
    return document


# --- The commands


def verify_checkpoint(note: str, key: Key) -> str:
    """A line that says what holds."""
    stated = open_checkpoint(note, key)
    return (
        f"{key[0]} signed on {stated['signed_at']}: store {stated['store_id']} has "
        f"{stated['size']} records in {stated['commit']} commits, the last recorded on "
        f"{stated['recorded_at']}, root {stated['root'].hex()}"
    )


def verify_proof(text: str, key: Key) -> str:
    """A line that says what holds."""
    document = load_json(text)
    members = list(document) if isinstance(document, dict) else []
    if members and document.get("format") == "eventstore-inclusion-proof-v1":
        if members != ["format", "record", "path", "checkpoint"]:
            raise Refused("not an inclusion proof: it has other members")
        stated = open_checkpoint(_text(document["checkpoint"]), key)
        record = parse_record(document["record"])
        root = root_from_inclusion(
            leaf_hash(stated["store_id"], record),
            record["position"] - 1,
            stated["size"],
            _path(document["path"]),
        )
        if root != stated["root"]:
            raise Refused("the record is not part of what was signed")
        return (
            f"the {record['kind'].replace('_', ' ')} {record['entity_id']} at position "
            f"{record['position']} is part of what {key[0]} signed on {stated['signed_at']}"
        )
    if members and document.get("format") == "eventstore-consistency-proof-v1":
        if members != ["format", "older", "newer", "path"]:
            raise Refused("not a consistency proof: it has other members")
        older = open_checkpoint(_text(document["older"]), key)
        newer = open_checkpoint(_text(document["newer"]), key)
        if older["store_id"] != newer["store_id"]:
            raise Refused("the checkpoints are of two stores")
        check_consistency(
            older["size"], newer["size"], older["root"], newer["root"], _path(document["path"])
        )
        return (
            f"the {newer['size']} records signed on {newer['signed_at']} begin with the "
            f"{older['size']} signed on {older['signed_at']}"
        )
    raise Refused("not a proof: its format is unknown")


def verify_records(records: Iterable[Record], note: str, key: Key) -> str:
    """Compute the root over records in order, as far as a checkpoint reaches, and compare."""
    stated = open_checkpoint(note, key)
    tree = Tree()
    for record in records:
        if record["position"] != tree.size + 1:
            raise Refused(f"position {tree.size + 1} is missing: {record['position']} comes next")
        tree.append(leaf_hash(stated["store_id"], record))
        if tree.size == stated["size"]:
            break
    if tree.size < stated["size"]:
        raise Refused(f"{stated['size']} records were signed, there are {tree.size}")
    if tree.root() != stated["root"]:
        raise Refused("the records are not those that were signed")
    return f"all {tree.size} records are those that {key[0]} signed on {stated['signed_at']}"


def exported_records(path: str) -> Iterator[Record]:
    """The records in a file that `eventstore export` wrote."""
    with open(path, encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield parse_record(load_json(line))


def stored_records(directory: str) -> Iterator[Record]:
    """The records in a copy of a store. Needs pyarrow, to read the files and for nothing else."""
    import pyarrow
    import pyarrow.parquet

    for path in sorted((pathlib.Path(directory) / "log").iterdir()):
        if path.suffix == ".parquet":
            batches = pyarrow.parquet.ParquetFile(path).iter_batches(columns=_MEMBERS)
        elif path.suffix == ".arrows":
            batches = pyarrow.ipc.open_stream(pyarrow.OSFile(str(path)))
        else:
            continue
        for batch in batches:
            columns = {name: batch.column(name) for name in _MEMBERS}
            columns["recorded_at"] = columns["recorded_at"].cast(pyarrow.int64())
            values = [columns[name].to_pylist() for name in _MEMBERS]
            for row in zip(*values):
                yield dict(zip(_MEMBERS, row))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Refused("a checkpoint is a text")
    return value


def _path(value: Any) -> list[bytes]:
    if not isinstance(value, list) or not all(isinstance(node, str) for node in value):
        raise Refused("a path is a list of hashes in base64")
    path = [_strict_base64(node) for node in value]
    if any(len(node) != 32 for node in path):
        raise Refused("a hash has 32 bytes")
    return path


def main(arguments: list[str]) -> int:
    """Run one command; the exit code."""
    counts = {"checkpoint": 3, "proof": 3, "records": 4, "store": 4}
    if not arguments or counts.get(arguments[0]) != len(arguments):
        print(__doc__, file=sys.stderr)
        return 2
    command, subject, *rest = arguments

    def read(path: str) -> str:
        return pathlib.Path(path).read_bytes().decode("utf-8")

    try:
        key = parse_key(read(rest[-1]))
        if command == "checkpoint":
            print("holds:", verify_checkpoint(read(subject), key))
        elif command == "proof":
            print("holds:", verify_proof(read(subject), key))
        else:
            records = exported_records(subject) if command == "records" else stored_records(subject)
            print("holds:", verify_records(records, read(rest[0]), key))
    except (Refused, OSError, UnicodeError) as error:
        print("REFUSED:", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
