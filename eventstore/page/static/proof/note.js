// Signed notes (c2sp.org/signed-note) and the keys that they are checked with.

import { Refused, areEqual, fromBase64, hex, sha256, utf8 } from "./bytes.js";

const FIELD = 2n ** 255n - 19n;
const GROUP_ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;
const SMALL_ORDER_Y8 = 0x5fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826n;
const SMALL_ORDER_YS = [0n, 1n, FIELD - 1n, SMALL_ORDER_Y8, FIELD - SMALL_ORDER_Y8];
const SIGNATURES_MAX = 1000;

// A key's name, its id of four bytes, and the public key, of the text `name+id+key`.
export async function parsedKey(text) {
  const [, name, id, encoded] = /^([^+]*)\+([^+]*)\+(.*)$/s.exec(text.trim()) ?? [];
  if (name === undefined || !isName(name)) {
    throw new Refused("this is no verifier key: it has the form name+id+key");
  }
  const key = fromBase64(encoded, "the key");
  if (key.length !== 33 || key[0] !== 1) {
    throw new Refused(`the key of ${name} is not one for notes in Ed25519`);
  }
  const expected = (await sha256(utf8(`${name}\n`), key)).slice(0, 4);
  if (hex(expected) !== id) {
    throw new Refused(`the key of ${name} does not have its id`, hex(expected), id);
  }
  const publicKey = key.slice(1);
  if (!isStrictPoint(publicKey)) {
    throw new Refused(`the key of ${name} is a point of small order: anybody could sign for it`);
  }
  return { name, id: expected, publicKey };
}

// A note's text, its last newline included, and what follows the empty line, which no one has read.
export function parsedNote(note) {
  const end = note.lastIndexOf("\n\n");
  if (end < 0) {
    throw new Refused("this is no signed note: a text, an empty line, and signature lines");
  }
  const text = note.slice(0, end + 1);
  refuseControls(text);
  return { text, lines: note.slice(end + 2) };
}

// Of each signature line the name, the key's id and the signature.
function signaturesOf(lines) {
  refuseControls(lines);
  const found = lines.slice(0, -1).split("\n");
  if (!lines.endsWith("\n") || found.length > SIGNATURES_MAX) {
    throw new Refused(`a checkpoint has 1 to ${SIGNATURES_MAX} signature lines at its end`);
  }
  return found.map((line) => {
    const [, name, encoded] = /^\u2014 ([^ ]*) (.*)$/.exec(line) ?? [];
    const signed = fromBase64(encoded ?? "", "a signature");
    if (name === undefined || !isName(name) || signed.length <= 4) {
      throw new Refused(`this is no signature line: ${line.slice(0, 80)}`);
    }
    return { name, id: signed.slice(0, 4), signature: signed.slice(4) };
  });
}

function refuseControls(text) {
  if (/[\x00-\x09\x0b-\x1f]/.test(text)) {
    throw new Refused("the checkpoint has control characters");
  }
}

// Refuse a note that this key has not signed, or with a signature by it of something else.
export async function refuseUnsigned(note, key) {
  const signatures = signaturesOf(note.lines);
  const own = signatures.filter(({ name, id }) => name === key.name && areEqual(id, key.id));
  if (own.length === 0) {
    const found = signatures.map(({ name, id }) => `${name}+${hex(id)}`).join(", ");
    throw new Refused("your key has not signed the checkpoint", `${key.name}+${hex(key.id)}`, found);
  }
  for (const { signature } of own) {
    if (!(await verifies(key.publicKey, signature, utf8(note.text)))) {
      throw new Refused(`the signature by ${key.name} is not of this checkpoint`);
    }
  }
}

// RFC 8032 by its strictest reading: what implementations do not agree on is refused.
async function verifies(publicKey, signature, signed) {
  if (signature.length !== 64 || !isStrictPoint(signature.slice(0, 32))) {
    return false;
  }
  if (littleEndian(signature.slice(32)) >= GROUP_ORDER) {
    return false;
  }
  try {
    const key = await crypto.subtle.importKey("raw", publicKey, "Ed25519", false, ["verify"]);
    return await crypto.subtle.verify("Ed25519", key, signature, signed);
  } catch (error) {
    if (error.name === "DataError") {
      return false; // no point of the curve
    }
    throw error;
  }
}

function isStrictPoint(encoded) {
  const y = littleEndian(encoded) & (2n ** 255n - 1n);
  return y < FIELD && !SMALL_ORDER_YS.includes(y);
}

function littleEndian(bytes) {
  return BigInt(`0x${hex(Uint8Array.from(bytes).reverse())}`);
}

function isName(name) {
  // Python's spaces, which are U+001C to U+001F and U+0085 as well, and not U+FEFF.
  return name !== "" && !/[+\x00-\x20\x85]|(?!\ufeff)\s/.test(name) && name.isWellFormed();
}
