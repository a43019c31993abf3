// Checks a proof where the doubter sits: four steps in the order in which one would ask, and the
// record as the proved bytes have it. Nothing here asks a server.

import { Refused, areEqual, base64, fromBase64, hex, numberAfter } from "./bytes.js";
import { statementOf, timeText } from "./checkpoint.js";
import { headOf, leafHash } from "./merkle.js";
import { MESSAGES } from "./messages.js";
import { parsedKey, parsedNote, refuseUnsigned } from "./note.js";
import { decoded } from "./protobuf.js";
import { entryOf, parsedRecord, refuseForeign, refuseUnsound, shownEnvelope } from "./record.js";

const HEADER = "c2sp.org/tlog-proof@v1";
const PATH_MAX = 63;

export const STEPS = [
  "The bytes received are this leaf",
  "The path leads from the leaf to a head",
  "The head is the checkpoint's",
  "The signature is your key's",
];

// Why nothing can be checked here, or null.
export async function hindrance() {
  if (!globalThis.crypto?.subtle) {
    return "this page did not come over TLS or from this machine, so the browser checks nothing";
  }
  try {
    await crypto.subtle.importKey("raw", new Uint8Array(32).fill(1, 31), "Ed25519", false, ["verify"]);
  } catch (error) {
    if (error.name === "NotSupportedError") {
      return "this browser does not know Ed25519; one of 2025 or later does";
    }
  }
  return null;
}

// Check a proof. `key` is the text of a verifier key, or empty; `expected` is what was asked for,
// if it is known: { position, storeId, leaf, checkpoint }, the leaf's hash in hexadecimal.
//
// The answer has a `state`: "proved", "refused" (a step does not hold) or "unchecked" (a step can't
// be checked); `steps`, each { name, state, says, expected, found } with the states "holds",
// "refused", "unchecked" and "not reached"; and once the record could be read, `record` and
// `message`, its content, which is null where that was erased. Believe them if it is "proved" alone.
export async function check(proof, key, expected = {}) {
  const found = { state: "proved", steps: [] };
  const known = {};
  for (const [place, step] of [leafStep, pathStep, headStep, signatureStep].entries()) {
    const name = STEPS[place];
    if (found.state !== "proved") {
      found.steps.push({ name, state: "not reached", says: "" });
      continue;
    }
    try {
      const says = await step(known, proof, key, expected);
      found.steps.push({ name, state: "holds", says });
    } catch (error) {
      if (!(error instanceof Refused)) {
        throw error;
      }
      found.state = error instanceof Unchecked ? "unchecked" : "refused";
      const { message, expected: wanted, found: had } = error;
      found.steps.push({ name, state: found.state, says: message, expected: wanted, found: had });
    }
  }
  return { ...found, record: known.shown, message: known.message };
}

class Unchecked extends Refused {}

async function leafStep(known, proof, _key, expected) {
  Object.assign(known, partsOf(proof));
  const record = parsedRecord(known.extra);
  known.record = record;
  known.shown = shownEnvelope(record);
  if (known.index !== record.position - 1n) {
    throw new Refused("the proof is of another leaf than its record", `leaf ${record.position - 1n}`, `leaf ${known.index}`);
  }
  if (expected.position && BigInt(expected.position) !== record.position) {
    throw new Refused("the proof is of another record than was asked for", `position ${expected.position}`, `position ${record.position}`);
  }
  refuseUnsound(record);
  known.message = record.payload && decoded(record.payload, MESSAGES[record.kind]);
  if (known.message) {
    refuseForeign(record, known.message);
  }
  // Which store it is of stands in the checkpoint alone; the third step looks at that.
  known.storeId = expected.storeId ?? /^eventstore\/([0-9a-f-]{36})$/m.exec(known.checkpoint)?.[1];
  if (!known.storeId) {
    throw new Refused("the checkpoint does not say of which store it is");
  }
  known.leaf = await leafHash(await entryOf(record, known.storeId));
  if (expected.leaf && expected.leaf !== hex(known.leaf)) {
    throw new Refused("the bytes are another leaf", expected.leaf, hex(known.leaf));
  }
  return `leaf ${known.index}, SHA-256 ${hex(known.leaf)}`;
}

async function pathStep(known) {
  known.path = known.pathLines.map((line) => {
    const hash = fromBase64(line, "a hash of the path");
    if (hash.length !== 32) {
      throw new Refused("a hash of the path has not 32 bytes", "32 bytes", `${hash.length} bytes`);
    }
    return hash;
  });
  const [, size] = /^([1-9][0-9]{0,18})$/.exec(known.checkpoint.split("\n")[1]) ?? [];
  if (!size) {
    throw new Refused("the checkpoint does not say how many records it covers");
  }
  known.head = await headOf(known.leaf, known.index, BigInt(size), known.path);
  return `${known.path.length} hashes lead to ${base64(known.head)}`;
}

async function headStep(known, _proof, _key, expected) {
  if (expected.checkpoint && expected.checkpoint !== known.checkpoint) {
    throw new Refused("the proof is against another checkpoint than yours", expected.checkpoint, known.checkpoint);
  }
  const note = parsedNote(known.checkpoint);
  const stated = statementOf(note.text);
  if (expected.storeId && expected.storeId !== stated.storeId) {
    throw new Refused("the checkpoint is another store's", expected.storeId, stated.storeId);
  }
  if (!areEqual(known.head, stated.root)) {
    throw new Refused(
      "the head is not the one that the checkpoint states: record, path or checkpoint were changed",
      base64(stated.root),
      base64(known.head),
    );
  }
  refuseLater(known.record, stated);
  Object.assign(known, { note, stated });
  return `${stated.size} records, ${base64(stated.root)}, commit ${stated.commit}`;
}

async function signatureStep(known, _proof, key) {
  if (!key.trim()) {
    throw new Unchecked("give the key of whoever signs the checkpoints, as you have it from them");
  }
  if (/^\s*(log|witness|quorum|group|#)/.test(key)) {
    throw new Unchecked("this is a policy: check it with eventstore prove --check, or the stand-alone verifier");
  }
  const parsed = await parsedKey(key);
  await refuseUnsigned(known.note, parsed);
  return `${parsed.name}+${hex(parsed.id)} has signed on ${known.stated.signedAt}`;
}

// A record is of no later commit or time than its checkpoint, and the last one of the same.
function refuseLater(record, stated) {
  const isLast = record.position === stated.size;
  const isSame = record.commit === stated.commit && record.recorded_at === stated.recordedAt;
  if (record.commit > stated.commit || record.recorded_at > stated.recordedAt || (isLast && !isSame)) {
    const words = (commit, at) => `commit ${commit}, ${at}`;
    throw new Refused(
      "the checkpoint does not reach to the record",
      words(stated.commit, stated.recordedAtText),
      words(record.commit, timeText(record.recorded_at)),
    );
  }
}

// The parts of a proof's text: FORMAT.md, "Checkpoints and proofs".
function partsOf(proof) {
  const end = proof.indexOf("\n\n");
  if (!proof.startsWith(`${HEADER}\n`) || end < 0) {
    throw new Refused("this is no proof of a record", HEADER, proof.slice(0, 40).split("\n")[0]);
  }
  const [, extra, index, ...pathLines] = proof.slice(0, end).split("\n");
  if (!extra?.startsWith("extra ")) {
    throw new Refused("the proof has no record as its extra data");
  }
  const number = numberAfter("index ", index ?? "");
  if (number === null) {
    throw new Refused("the proof does not say which leaf it is of", "index and a number", index);
  }
  if (pathLines.length > PATH_MAX) {
    throw new Refused(`the proof's path has more than ${PATH_MAX} hashes`);
  }
  return {
    extra: fromBase64(extra.slice("extra ".length), "the proof's record"),
    index: number,
    pathLines,
    checkpoint: proof.slice(end + 2),
  };
}

// Whether a text is a proof, a checkpoint or a key: what readers drop is told apart by itself.
export function kindOf(text) {
  if (text.startsWith(HEADER)) {
    return "proof";
  }
  if (/^eventstore\/[0-9a-f-]{36}\n/.test(text)) {
    return "checkpoint";
  }
  return /^\s*[^+\s]+\+[0-9a-f]{8}\+[A-Za-z0-9+/=]+\s*$/.test(text) ? "key" : null;
}
