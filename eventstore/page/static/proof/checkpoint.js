// What a checkpoint states: FORMAT.md, "Checkpoints and proofs".

import { Refused, fromBase64 } from "./bytes.js";

const TIME = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}Z";
const LINES = new RegExp(
  "^eventstore/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\n" +
    "([1-9][0-9]{0,18})\n" +
    "([A-Za-z0-9+/]{43}=)\n" +
    "commit ([1-9][0-9]{0,18})\n" +
    `recorded-at (${TIME})\n` +
    `signed-at (${TIME})\n$`,
);

// Of the text of a note; numbers are BigInts, `recordedAt` is µs since the epoch.
export function statementOf(text) {
  const found = LINES.exec(text);
  if (found === null) {
    throw new Refused("the signed text is not a checkpoint of a store");
  }
  const [size, commit] = [BigInt(found[2]), BigInt(found[4])];
  if (commit > size || size >= 2n ** 63n) {
    throw new Refused(`no store has ${size} records in ${commit} commits`);
  }
  microseconds(found[6]);
  return {
    storeId: found[1],
    size,
    root: fromBase64(found[3], "the checkpoint's head"),
    commit,
    recordedAt: microseconds(found[5]),
    recordedAtText: found[5],
    signedAt: found[6],
  };
}

function microseconds(text) {
  const seconds = Date.parse(`${text.slice(0, 19)}Z`);
  if (Number.isNaN(seconds) || new Date(seconds).toISOString().slice(0, 19) !== text.slice(0, 19)) {
    throw new Refused(`the checkpoint states a time that is none: ${text}`);
  }
  return BigInt(seconds) * 1000n + BigInt(text.slice(20, 26));
}

// µs since the epoch as a checkpoint writes times.
export function timeText(microseconds) {
  const fraction = String(microseconds % 1_000_000n).padStart(6, "0");
  const seconds = new Date(Number(microseconds / 1000n)).toISOString().slice(0, 19);
  return `${seconds}.${fraction}Z`;
}
