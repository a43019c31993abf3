// Reads protobuf messages as FORMAT.md, "How payloads are read", lays down, into objects that say
// what was proved. Whatever is in a message and not in its schema is shown as it stands.
//
// A schema is { NUMBER: [NAME, TYPE] } with `oneofs`, lists of numbers of which one is there.
// A type is a name of SCALARS, a schema, or made by `list`, `map` or `choice`.

import { Refused, base64, hex, joined } from "./bytes.js";

const [VARINT, FIXED64, BYTES, GROUP, END_GROUP, FIXED32] = [0, 1, 2, 3, 4, 5];
const DEPTH_MAX = 101;

const SCALARS = {
  int64: [VARINT, (value) => BigInt.asIntN(64, value)],
  int32: [VARINT, (value) => BigInt.asIntN(32, value)],
  bool: [VARINT, (value) => value !== 0n],
  double: [FIXED64, (value) => viewOf(value).getFloat64(0, true)],
  string: [BYTES, (value) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(value)],
  bytes: [BYTES, (value) => base64(value)],
};

export const list = (of) => ({ of, isList: true });
export const map = (of) => ({ of, isMap: true });
// An enum. A number without a name is shown in an open one, and passed over in a closed one.
export const choice = (names, isOpen = false) => ({ names, isOpen });

export function decoded(bytes, schema, depth = 1) {
  if (depth > DEPTH_MAX) {
    throw new Refused(`more than ${DEPTH_MAX} messages of the content lie one in the other`);
  }
  const message = {};
  const parts = {}; // of messages that are there in parts
  for (const { number, wire, value, raw } of fieldsOf(bytes)) {
    const [name, type] = schema[number] ?? [];
    const read = name && reader(type, wire);
    if (!read) {
      (message.unknown ??= []).push(`field ${number}: ${hex(raw)}`);
      continue;
    }
    for (const other of schema.oneofs?.find((numbers) => numbers.includes(number)) ?? []) {
      if (other !== number) {
        delete message[schema[other][0]];
        delete parts[schema[other][0]];
      }
    }
    if (read === readMessage) {
      (parts[name] ??= []).push(value);
      message[name] = decoded(joined(...parts[name]), type, depth + 1);
    } else {
      read(message, name, type, value, depth);
    }
  }
  return message;
}

function reader(type, wire) {
  if (type.isMap) {
    return wire === BYTES ? readEntry : null;
  }
  if (type.isList) {
    if (SCALARS[type.of]?.[0] === VARINT && wire === BYTES) {
      return readPacked;
    }
    return reader(type.of, wire) ? readElement : null;
  }
  if (type.names) {
    return wire === VARINT ? readChoice : null;
  }
  if (typeof type === "string") {
    return SCALARS[type][0] === wire ? readScalar : null;
  }
  return wire === BYTES ? readMessage : null;
}

function readScalar(message, name, type, value) {
  message[name] = SCALARS[type][1](value);
}

function readChoice(message, name, type, value) {
  const number = BigInt.asIntN(32, value);
  if (type.isOpen || type.names[number] !== undefined) {
    message[name] = type.names[number] ?? number;
  }
}

// Only its name is used: messages are read by `decoded`, once all of their parts are there.
function readMessage() {}

function readElement(message, name, type, value, depth) {
  const held = {};
  if (typeof type.of === "string") {
    readScalar(held, "of", type.of, value);
  } else {
    held.of = decoded(value, type.of, depth + 1);
  }
  (message[name] ??= []).push(held.of);
}

function readPacked(message, name, type, value) {
  for (let place = 0; place < value.length; ) {
    const [number, end] = varint(value, place);
    (message[name] ??= []).push(SCALARS[type.of][1](number));
    place = end;
  }
}

function readEntry(message, name, type, value, depth) {
  const entry = decoded(value, { 1: ["name", "string"], 2: ["value", type.of] }, depth + 1);
  if (entry.unknown) {
    (message.unknown ??= []).push(`an entry of ${name}: ${hex(value)}`);
    return;
  }
  // Without a prototype: a name may be `__proto__`.
  message[name] ??= Object.create(null);
  message[name][entry.name ?? ""] = entry.value ?? null;
}

function* fieldsOf(bytes) {
  for (let place = 0; place < bytes.length; ) {
    const field = fieldAt(bytes, place, 0);
    yield { ...field, raw: bytes.subarray(place, field.end) };
    place = field.end;
  }
}

function fieldAt(bytes, start, depth) {
  const [tag, after] = varint(bytes, start, 5);
  const [number, wire] = [Number(tag >> 3n), Number(tag & 7n)];
  if (tag >= 2n ** 32n || number === 0 || wire > FIXED32 || depth > 100) {
    throw broken(start);
  }
  if (wire === VARINT) {
    const [value, end] = varint(bytes, after);
    return { number, wire, value, end };
  }
  if (wire === GROUP) {
    for (let place = after; ; ) {
      const inner = fieldAt(bytes, place, depth + 1);
      place = inner.end;
      if (inner.wire === END_GROUP) {
        if (inner.number !== number) {
          throw broken(start);
        }
        return { number, wire, value: null, end: place };
      }
    }
  }
  if (wire === END_GROUP) {
    if (depth === 0) {
      throw broken(start);
    }
    return { number, wire, value: null, end: after };
  }
  let [length, begin] = [wire === FIXED64 ? 8 : 4, after];
  if (wire === BYTES) {
    const [stated, end] = varint(bytes, after);
    [length, begin] = [Number(stated), end];
  }
  if (begin + length > bytes.length) {
    throw broken(start);
  }
  return { number, wire, value: bytes.subarray(begin, begin + length), end: begin + length };
}

function varint(bytes, start, most = 10) {
  let value = 0n;
  for (let place = start; place < start + most; place += 1) {
    if (place >= bytes.length) {
      throw broken(start);
    }
    value |= BigInt(bytes[place] & 127) << BigInt(7 * (place - start));
    if (bytes[place] < 128) {
      return [BigInt.asUintN(64, value), place + 1];
    }
  }
  throw broken(start);
}

function broken(place) {
  return new Refused(`the content is no message of protobuf: see its byte ${place + 1}`);
}

function viewOf(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
