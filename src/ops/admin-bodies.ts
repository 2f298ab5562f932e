/** What the admin interface takes: JSON Schemas that check requests, and that openapi.json shows. */

const names = { type: "array", items: { type: "string" } } as const;

export const SINK = {
  type: "object",
  additionalProperties: false,
  properties: { sink: { type: "string", description: "One sink; left out: all." } },
} as const;

export const SNAPSHOT = {
  type: "object",
  additionalProperties: false,
  properties: {
    sinks: { ...names, description: "For these sinks; empty or left out: all." },
    tables: { ...names, description: "These tables, as schema.table; empty or left out: all." },
  },
} as const;

/** On the Unix socket alone: a condition is SQL, run as the source's role. */
export const SNAPSHOT_WITH_CONDITION = {
  ...SNAPSHOT,
  properties: { ...SNAPSHOT.properties, where: { type: "string", nullable: true } },
} as const;

export const WAIT = {
  type: "object",
  additionalProperties: false,
  properties: {
    timeoutMs: { type: "number", minimum: 0, maximum: 86_400_000, description: "Default: 60000." },
  },
} as const;

export const QUERY = {
  type: "object",
  additionalProperties: false,
  required: ["sink", "timeoutMs"],
  properties: {
    sink: { type: "string" },
    timeoutMs: { type: "integer", minimum: 1, maximum: 86_400_000 },
  },
} as const;

export const RECONCILE = {
  type: "object",
  additionalProperties: false,
  required: ["sinks", "tables", "patienceMs", "repairs", "sampleMax", "mode", "showsValues", "resume"],
  properties: {
    sinks: names,
    tables: names,
    patienceMs: { type: "integer", minimum: 0, maximum: 86_400_000 },
    repairs: { type: "boolean" },
    sampleMax: { type: "integer", minimum: 1, maximum: 10_000 },
    mode: { enum: ["full", "fast"] },
    showsValues: { type: "boolean" },
    resume: { type: "string", nullable: true },
  },
} as const;
