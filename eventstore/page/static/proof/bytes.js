// Bytes and texts. Whatever is not written in the one way that an encoder writes it is refused.

// What is looked at does not hold; `expected` and `found` are texts, or undefined.
export class Refused extends Error {
  constructor(message, expected, found) {
    super(message);
    this.expected = expected;
    this.found = found;
  }
}

const encoder = new TextEncoder();

export function utf8(text) {
  if (!text.isWellFormed()) {
    throw new Refused("a text is not Unicode");
  }
  return encoder.encode(text);
}

export function textOf(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Refused("a text is not UTF-8");
  }
}

export function joined(...parts) {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let place = 0;
  for (const part of parts) {
    whole.set(part, place);
    place += part.length;
  }
  return whole;
}

export function areEqual(one, other) {
  return one.length === other.length && one.every((byte, place) => byte === other[place]);
}

export function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function fromHex(text) {
  return Uint8Array.from(text.match(/../g) ?? [], (digits) => Number.parseInt(digits, 16));
}

export function base64(bytes) {
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

export function fromBase64(text, what) {
  // `atob` passes over spaces, missing padding and bits that are left over.
  let decoded = "";
  try {
    decoded = atob(text);
  } catch {
    throw new Refused(`${what} is not base64`);
  }
  if (btoa(decoded) !== text) {
    throw new Refused(`${what} is not base64 as an encoder writes it`);
  }
  return Uint8Array.from(decoded, (character) => character.charCodeAt(0));
}

// A whole number from 0 to 2^63 − 1 that a text of this form has after a word; else null.
export function numberAfter(word, line) {
  const found = /^(0|[1-9][0-9]{0,18})$/.exec(line.startsWith(word) ? line.slice(word.length) : "");
  const number = found && BigInt(found[1]);
  return found && number < 2n ** 63n ? number : null;
}

export async function sha256(...parts) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", joined(...parts)));
}
