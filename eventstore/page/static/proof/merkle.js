// The Merkle tree of RFC 6962, checked by the algorithm of RFC 9162, section 2.1.3.2.

import { Refused, sha256 } from "./bytes.js";

const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);

export async function leafHash(entry) {
  return sha256(LEAF, entry);
}

// The head that a path leads to from the leaf at `index`, counted from 0, of `size` leaves.
export async function headOf(leaf, index, size, path) {
  if (index >= size) {
    throw new Refused(
      "the checkpoint does not cover the record",
      `a position up to ${size}`,
      `position ${index + 1n}`,
    );
  }
  const expected = hashesNeeded(index, size);
  if (path.length !== expected) {
    throw new Refused(
      `no path from position ${index + 1n} of ${size} has as many hashes`,
      `${expected} hashes`,
      `${path.length} hashes`,
    );
  }
  let [node, last, head] = [index, size - 1n, leaf];
  for (const sibling of path) {
    if (node & 1n || node === last) {
      head = await sha256(NODE, sibling, head);
      while (!(node & 1n) && node) {
        node >>= 1n;
        last >>= 1n;
      }
    } else {
      head = await sha256(NODE, head, sibling);
    }
    node >>= 1n;
    last >>= 1n;
  }
  return head;
}

function hashesNeeded(index, size) {
  let [first, leaves, count] = [0n, size, 0];
  while (leaves > 1n) {
    const left = 2n ** BigInt((leaves - 1n).toString(2).length - 1);
    if (index - first < left) {
      leaves = left;
    } else {
      first += left;
      leaves -= left;
    }
    count += 1;
  }
  return count;
}
