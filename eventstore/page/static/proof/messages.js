// The messages that records hold: protos/metadata_store.proto and protos/retention.proto.

import { choice, list, map } from "./protobuf.js";

const ANY = { 1: ["type_url", "string"], 2: ["value", "bytes"] };

const STRUCT_VALUE = { oneofs: [[1, 2, 3, 4, 5, 6]] };
const STRUCT = { 1: ["fields", map(STRUCT_VALUE)] };
Object.assign(STRUCT_VALUE, {
  1: ["null_value", choice({ 0: "NULL_VALUE" }, true)],
  2: ["number_value", "double"],
  3: ["string_value", "string"],
  4: ["bool_value", "bool"],
  5: ["struct_value", STRUCT],
  6: ["list_value", { 1: ["values", list(STRUCT_VALUE)] }],
});

const VALUE = {
  1: ["int_value", "int64"],
  2: ["double_value", "double"],
  3: ["string_value", "string"],
  4: ["struct_value", STRUCT],
  5: ["proto_value", ANY],
  6: ["bool_value", "bool"],
  oneofs: [[1, 2, 3, 4, 5, 6]],
};

const PROPERTY_TYPES = choice(["UNKNOWN", "INT", "DOUBLE", "STRING", "STRUCT", "PROTO", "BOOLEAN"]);

const ARTIFACT = {
  1: ["id", "int64"],
  2: ["type_id", "int64"],
  3: ["uri", "string"],
  4: ["properties", map(VALUE)],
  5: ["custom_properties", map(VALUE)],
  6: ["state", choice(["UNKNOWN", "PENDING", "LIVE", "MARKED_FOR_DELETION", "DELETED", "ABANDONED", "REFERENCE"])],
  7: ["name", "string"],
  8: ["type", "string"],
  9: ["create_time_since_epoch", "int64"],
  10: ["last_update_time_since_epoch", "int64"],
  11: ["external_id", "string"],
  12: ["system_metadata", ANY],
};

const EXECUTION = {
  1: ["id", "int64"],
  2: ["type_id", "int64"],
  3: ["last_known_state", choice(["UNKNOWN", "NEW", "RUNNING", "COMPLETE", "FAILED", "CACHED", "CANCELED"])],
  4: ["properties", map(VALUE)],
  5: ["custom_properties", map(VALUE)],
  6: ["name", "string"],
  7: ["type", "string"],
  8: ["create_time_since_epoch", "int64"],
  9: ["last_update_time_since_epoch", "int64"],
  10: ["external_id", "string"],
  11: ["system_metadata", ANY],
};

const CONTEXT = {
  1: ["id", "int64"],
  2: ["type_id", "int64"],
  3: ["name", "string"],
  4: ["properties", map(VALUE)],
  5: ["custom_properties", map(VALUE)],
  6: ["type", "string"],
  7: ["create_time_since_epoch", "int64"],
  8: ["last_update_time_since_epoch", "int64"],
  9: ["external_id", "string"],
  10: ["system_metadata", ANY],
};

const ARTIFACT_TYPE = {
  1: ["id", "int64"],
  2: ["name", "string"],
  3: ["properties", map(PROPERTY_TYPES)],
  4: ["version", "string"],
  5: ["description", "string"],
  6: ["base_type", choice(["UNSET", "DATASET", "MODEL", "METRICS", "STATISTICS"])],
  7: ["external_id", "string"],
};

const STRUCT_TYPE = { oneofs: [[1, 2, 3, 4, 5, 6, 7, 8]] };
Object.assign(STRUCT_TYPE, {
  1: ["simple", ARTIFACT_TYPE],
  2: ["union_type", { 1: ["candidates", list(STRUCT_TYPE)] }],
  3: ["intersection", { 1: ["constraints", list(STRUCT_TYPE)] }],
  4: ["list", { 1: ["element", STRUCT_TYPE] }],
  5: ["none", {}],
  6: ["any", {}],
  7: ["tuple", { 1: ["elements", list(STRUCT_TYPE)] }],
  8: [
    "dict",
    {
      1: ["properties", map(STRUCT_TYPE)],
      2: ["none_type_not_required", "bool"],
      3: ["extra_properties_type", STRUCT_TYPE],
    },
  ],
});

const EXECUTION_TYPE = {
  1: ["id", "int64"],
  2: ["name", "string"],
  3: ["properties", map(PROPERTY_TYPES)],
  4: ["input_type", STRUCT_TYPE],
  5: ["output_type", STRUCT_TYPE],
  6: ["version", "string"],
  7: ["description", "string"],
  8: ["base_type", choice(["UNSET", "TRAIN", "TRANSFORM", "PROCESS", "EVALUATE", "DEPLOY"])],
  9: ["external_id", "string"],
};

const CONTEXT_TYPE = {
  1: ["id", "int64"],
  2: ["name", "string"],
  3: ["properties", map(PROPERTY_TYPES)],
  4: ["version", "string"],
  5: ["description", "string"],
  6: ["base_type", choice(["UNSET"])],
  7: ["external_id", "string"],
};

const EVENT = {
  1: ["artifact_id", "int64"],
  2: ["execution_id", "int64"],
  3: ["path", { 1: ["steps", list({ 1: ["index", "int64"], 2: ["key", "string"], oneofs: [[1, 2]] })] }],
  4: [
    "type",
    choice([
      ...["UNKNOWN", "DECLARED_OUTPUT", "DECLARED_INPUT", "INPUT", "OUTPUT"],
      ...["INTERNAL_INPUT", "INTERNAL_OUTPUT", "PENDING_OUTPUT"],
    ]),
  ],
  5: ["milliseconds_since_epoch", "int64"],
  6: ["system_metadata", ANY],
};

const SCOPE = {
  1: ["kinds", list("string")],
  2: ["type_ids", list("int64")],
  3: ["context_ids", list("int64")],
  4: ["entities", list({ 1: ["kind", "string"], 2: ["id", "int64"] })],
  5: ["filter", "string"],
};

const RETENTION_RULE = {
  1: ["id", "int64"],
  2: ["scope", SCOPE],
  3: ["keep_at_least_seconds", "int64"],
  4: ["keep_at_most_seconds", "int64"],
  5: ["includes_current", "bool"],
  6: ["basis", "string"],
  7: ["ticket", "string"],
  8: ["is_withdrawn", "bool"],
  9: ["needs_approval", "bool"],
};

const HOLD = {
  1: ["id", "int64"],
  2: ["scope", SCOPE],
  3: ["stage", choice(["STAGE_UNSPECIFIED", "PLACED", "RELEASE_PROPOSED", "RELEASED"], true)],
  4: ["basis", "string"],
  5: ["ticket", "string"],
  6: ["release_ticket", "string"],
  7: ["needs_approval", "bool"],
  8: ["is_repeated", "bool"],
};

const ERASED_RANGE = {
  1: ["first_position", "int64"],
  2: ["last_position", "int64"],
  3: ["content", "bool"],
  4: ["who", "bool"],
  5: ["redacted_properties", list("string")],
  6: ["replaced_by", "int64"],
};

const ERASURE = {
  1: ["id", "int64"],
  2: ["stage", choice(["STAGE_UNSPECIFIED", "PROPOSED", "REQUESTED", "COMPLETED", "WITHDRAWN"], true)],
  3: ["ranges", list(ERASED_RANGE)],
  4: ["basis", "string"],
  5: ["ticket", "string"],
  6: ["rule_position", "int64"],
  7: ["contents_erased", "int64"],
  8: ["whos_erased", "int64"],
  9: ["files", list({ 1: ["segment", "int64"], 2: ["old_sha256", "bytes"], 3: ["new_sha256", "bytes"] })],
  10: ["is_repeated", "bool"],
};

const linkOf = (one, other) => ({ 1: [one, "int64"], 2: [other, "int64"], 3: ["system_metadata", ANY] });

export const MESSAGES = {
  artifact_type: ARTIFACT_TYPE,
  execution_type: EXECUTION_TYPE,
  context_type: CONTEXT_TYPE,
  artifact: ARTIFACT,
  execution: EXECUTION,
  context: CONTEXT,
  event: EVENT,
  attribution: linkOf("artifact_id", "context_id"),
  association: linkOf("execution_id", "context_id"),
  parent_context: linkOf("child_id", "parent_id"),
  retention_rule: RETENTION_RULE,
  hold: HOLD,
  erasure: ERASURE,
};
