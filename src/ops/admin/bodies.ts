/**
 * Request bodies of the admin interface: validated at each request and described in openapi.json. Unknown fields are
 * refused.
 */
import * as z from "zod";
import { duration } from "../../core/values/quantity-keys.ts";

const names = z.array(z.string());
const DAY_MS = 86_400_000;

const SINK = z.strictObject({ sink: z.string().optional().describe("One sink; left out: all.") });

/** What to pause or to resume. */
export const CHOICE = SINK.extend({
  tables: names.optional().describe("These tables alone, as schema.table; empty or left out: the sink as a whole."),
});

export const SNAPSHOT = z.strictObject({
  sinks: names.optional().describe("For these sinks; empty or left out: all."),
  tables: names.optional().describe("These tables, as schema.table; empty or left out: all."),
});

/** Only on the Unix socket: the condition is SQL that runs as the source's role. */
export const SNAPSHOT_WITH_CONDITION = SNAPSHOT.extend({ where: z.string().nullish() });

export const WAIT = z.strictObject({ timeoutMs: z.number().min(0).max(DAY_MS).optional().describe("Default: 60000.") });

const FRESH_MS_MAX = 3_600_000;
/** What openapi.json says of `timeout`: none of these is longer. Fractions are taken too. */
export const FRESH_TIMEOUT = "^([0-9]{1,6}ms|[0-9]{1,3}s|[0-5]?[0-9]m|1h)$";

/** In the query of a URL. */
export const FRESH = z.object({
  at: z
    .string()
    .min(1)
    .max(10_000)
    .optional()
    .describe("The token of a commit; left out: all that is committed by now."),
  sink: z.string().optional().describe("One sink; left out: all."),
  table: z
    .union([z.string().transform((one) => [one]), names])
    .default([])
    .describe("These tables alone, as schema.table; left out: all of the sink."),
  timeout: duration(0, FRESH_MS_MAX).prefault("2s").describe("How long to wait, at most 1h: 500ms, 2s."),
});

const LETTERS = {
  ids: z.array(z.int().min(1)).max(10_000).nullish().describe("Numbers of dead letters; left out: all that wait."),
  sink: z.string().nullish().describe("Of this sink only."),
};

export const DISCARD = z.strictObject(LETTERS);
export const REPLAY = z.strictObject({
  ...LETTERS,
  timeoutMs: z.number().min(0).max(DAY_MS).optional().describe("Default: 60000."),
});

/** The client runs the query itself, on a copy of the sink. */
export const QUERY = z.strictObject({ sink: z.string(), timeoutMs: z.int().min(1).max(DAY_MS) });

export const RECONCILE = z.strictObject({
  sinks: names,
  tables: names,
  mayLack: names.default([]),
  patienceMs: z.int().min(0).max(DAY_MS),
  deep: z.boolean().default(false),
  repairs: z.boolean(),
  sampleMax: z.int().min(1).max(10_000),
  mode: z.enum(["full", "fast"]),
  showsValues: z.boolean(),
  resume: z.string().nullable(),
});

export const VIEW = z.object({ since: z.string().default("").describe("Only points of the charts after this time.") });

export const AUDIT = z.object({
  limit: z.coerce.number().int().min(1).max(5_000).default(100).describe("The newest so many."),
});

/** The number of a read, in a path. */
export const NUMBERED = z.object({ id: z.string().regex(/^[1-9]\d{0,14}$/, { error: "expected a number" }) });

/** fastify's validator for a zod schema; its error names the field, never the value. */
export function validatorOf({ schema }: { readonly schema: z.ZodType }) {
  return (given: unknown): { readonly value: unknown } | { readonly error: Error } => {
    const { success, data, error } = schema.safeParse(given);
    return success ? { value: data } : { error: new Error(z.prettifyError(error)) };
  };
}
