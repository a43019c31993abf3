// A record as proofs write it, and the leaf that it is: FORMAT.md, "The proof", "Checkpoints and
// proofs" and "Records and commits".

import { Refused, base64, fromBase64, fromHex, joined, sha256, textOf, utf8 } from "./bytes.js";

const TYPES = ["artifact_type", "execution_type", "context_type"];
const NODES = ["artifact", "execution", "context"];
const LINKS = ["event", "attribution", "association", "parent_context"];
const RULES = ["retention_rule", "hold", "erasure"];
// The place of a kind, from 1, is its number in leaves.
const KINDS = [...TYPES, ...NODES, ...LINKS, ...RULES];

const LATEST = 253402300799999999n;
const ESCAPES = { '"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r" };

const FORMS = {
  number: { form: /-?(?:0|[1-9][0-9]{0,18})/y, read: readNumber },
  text: { form: /"(?:[^"\\\x00-\x1f]|\\["\\bfnrt]|\\u00[01][0-9a-f])*"/y, read: readText },
  bytes: { form: /"[A-Za-z0-9+/]*={0,2}"/y, read: (found) => fromBase64(found.slice(1, -1), "the record") },
};
const MEMBERS = {
  position: "number",
  commit: "number",
  recorded_at: "number",
  kind: "text",
  entity_id: "number",
  type_id: "number?",
  previous: "number?",
  actor: "text?",
  reason: "text?",
  request_id: "text?",
  salt: "bytes?",
  payload: "bytes?",
  commitment: "bytes?",
  who_salt: "bytes?",
  who_commitment: "bytes?",
};

// The record of these bytes, in the one form that is written. Numbers become BigInts, since those
// of JavaScript are exact to 2^53 only.
export function parsedRecord(bytes) {
  const text = textOf(bytes);
  const record = {};
  let place = 0;
  const pass = (expected) => {
    if (!text.startsWith(expected, place)) {
      throw new Refused("the record has another form", expected, text.slice(place, place + 40));
    }
    place += expected.length;
  };
  for (const [name, kind] of Object.entries(MEMBERS)) {
    pass(`${place ? "," : "{"}"${name}":`);
    if (kind.endsWith("?") && text.startsWith("null", place)) {
      record[name] = null;
      place += 4;
      continue;
    }
    const { form, read } = FORMS[kind.replace("?", "")];
    form.lastIndex = place;
    const found = form.exec(text);
    if (found === null) {
      throw new Refused(`${name} of the record has another form`, kind.replace("?", ""), text.slice(place, place + 40));
    }
    record[name] = read(found[0]);
    place += found[0].length;
  }
  pass("}");
  if (place !== text.length) {
    throw new Refused("the record has something behind it");
  }
  return record;
}

function readNumber(found) {
  const number = BigInt(found);
  if (String(number) !== found || BigInt.asIntN(64, number) !== number) {
    throw new Refused(`the record has a number that is none of 64 bits: ${found}`);
  }
  return number;
}

function readText(found) {
  const text = JSON.parse(found);
  const written = text.replace(
    /["\\\x00-\x1f]/g,
    (character) => ESCAPES[character] ?? `\\u00${character.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
  if (`"${written}"` !== found) {
    throw new Refused("a text of the record is escaped in another way", `"${written}"`, found);
  }
  return text;
}

// Refuse a record that no put writes, whatever its content says.
export function refuseUnsound(record) {
  const { kind, position, previous } = record;
  const isErased = record.commitment !== null;
  if (!KINDS.includes(kind)) {
    throw new Refused(`the record has no kind of record: ${kind}`);
  }
  // Salt and content are hashed as one: of another length, a byte could move between them.
  const hasContent = record.salt?.length === 16 && record.payload !== null;
  if (isErased ? record.commitment.length !== 32 || record.salt || record.payload : !hasContent) {
    throw new Refused("the record needs a salt of 16 bytes and content, or a commitment in their place");
  }
  const who = [record.who_salt, record.actor, record.reason, record.request_id];
  const isWhoErased = record.who_commitment !== null;
  if (
    isWhoErased
      ? record.who_commitment.length !== 32 || who.some((each) => each !== null)
      : record.who_salt?.length !== 16
  ) {
    throw new Refused("the record needs a salt of 16 bytes for who put it, or a commitment in place of both");
  }
  if ((isErased || isWhoErased) && RULES.includes(kind)) {
    throw new Refused("the record is erased, which records of its kind never are");
  }
  if (record.recorded_at < 0n || record.recorded_at > LATEST) {
    throw new Refused(`the record has no time of a record: ${record.recorded_at} µs`);
  }
  if (previous !== null && !(previous > 0n && previous < position)) {
    throw new Refused(`the record replaces position ${previous}, which is not before it`);
  }
  if (record.entity_id < 1n) {
    throw new Refused(`the record's entity id is ${record.entity_id}`);
  }
  if (NODES.includes(kind) ? !(record.type_id > 0n) : record.type_id !== null) {
    throw new Refused(`the record's type id is ${record.type_id ?? "missing"}`);
  }
  if (LINKS.includes(kind) && previous !== null) {
    throw new Refused(`the record is a link, and says that it replaces position ${previous}`);
  }
}

// Refuse a record whose content is another entity's. `message` is its content, decoded.
export function refuseForeign(record, message) {
  const isNode = NODES.includes(record.kind);
  const stated = [record.entity_id, ...(isNode ? [record.type_id] : [])];
  const found = [message.id ?? 0n, ...(isNode ? [message.type_id ?? 0n] : [])];
  if (!LINKS.includes(record.kind) && String(stated) !== String(found)) {
    const words = ([id, type]) => `${record.kind} ${id}${type === undefined ? "" : ` of type ${type}`}`;
    throw new Refused("the record's content is another entity's", words(stated), words(found));
  }
}

// What the record's leaf is the hash of, without the zero in front.
export async function entryOf(record, storeId) {
  const content = record.commitment ?? (await sha256(record.salt, record.payload));
  const texts = [record.actor, record.reason, record.request_id].map(optionalText);
  const who = record.who_commitment ?? (await sha256(record.who_salt, ...texts));
  return joined(
    fromHex(storeId.replaceAll("-", "")),
    ...[record.position, record.commit, record.recorded_at].map(int64),
    Uint8Array.of(KINDS.indexOf(record.kind) + 1),
    int64(record.entity_id),
    ...[record.type_id, record.previous].flatMap((number) => [
      Uint8Array.of(number === null ? 0 : 1),
      int64(number ?? 0n),
    ]),
    content,
    who,
  );
}

function int64(number) {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigInt64(0, number);
  return bytes;
}

function optionalText(text) {
  if (text === null) {
    return Uint8Array.of(0);
  }
  const encoded = utf8(text);
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, encoded.length);
  return joined(Uint8Array.of(1), length, encoded);
}

// Without the bytes, for who reads it.
export function shownEnvelope(record) {
  return Object.fromEntries(
    Object.keys(MEMBERS)
      .filter((name) => !/salt|payload/.test(name) && record[name] !== null)
      .map((name) => [name, record[name] instanceof Uint8Array ? base64(record[name]) : record[name]]),
  );
}
