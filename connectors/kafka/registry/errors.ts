/** What the schema registry's answers and failures mean. */
import * as z from "zod";
import { isAborted, MillraceError, type Raise } from "../../../src/core/errors.ts";
import { reachAgain } from "../../../src/core/system-errors.ts";
import { tlsFailure } from "../../../src/tls/failure.ts";
import { UnusableTls } from "../../../src/tls/options.ts";
import { codesOf } from "../client/failures.ts";
import { AmbiguousNames } from "../formats/registered/schemas.ts";
import { kafkaError, tableError } from "../errors.ts";

const LOGIN =
  "Correct `registry.username` and `registry.password`, or give the user the right to write the subjects (read, with `registry.register: false`).";
const LOOK =
  "Compare `registry.url` with the registry's address, and look at its log. With an authority of your own: `registry.tls.ca`.";

const registryError: Raise = (code, kind, message, details) =>
  kafkaError(code, kind, message, { ...details, hint: details?.hint ?? LOOK, part: "registry" });

/** Of an answer's text in a message: registries tell the whole schema. */
const TOLD_MAX = 300;
const TOLD = z.object({ message: z.string() });
/** A registry's own refusals have a code beside HTTP's. */
const CODED = z.object({ error_code: z.number() });
const MISSING = 404;
/** It does not have it, it is incompatible, or invalid. */
const OF_A_SCHEMA: ReadonlySet<number> = new Set([MISSING, 409, 422]);

/** The registry refuses a schema, or does not have it: this concerns the table whose schema it is. */
class SchemaRefused extends Error {}

/** What concerns one table alone; undefined: the error is another. */
export function schemaError(error: unknown, table: string): MillraceError | undefined {
  if (error instanceof SchemaRefused) return tableError("MR3532", table, error.message);
  if (!(error instanceof AmbiguousNames)) return undefined;
  const [one, other] = error.names.map((name) => JSON.stringify(name));
  return tableError("MR3532", table, `columns ${one} and ${other} of ${table} have one name in Avro`);
}

export function refusedBy(status: number, answer: string, server: string, subject = "?"): Error {
  const told = toldIn(answer);
  if (status === 401 || status === 403)
    return registryError("MR2002", "blocked", `the schema registry at ${server} refuses the login (HTTP ${status})`, {
      hint: LOGIN,
      reason: "login",
    });
  if (OF_A_SCHEMA.has(status)) {
    if (!CODED.safeParse(jsonIn(answer)).success) return foreignAnswer(status, server);
    return new SchemaRefused(
      status === MISSING
        ? `the schema registry does not have the schema of ${subject}`
        : `the schema registry refuses the schema of ${subject}: ${told}`,
    );
  }
  return registryError("MR2001", "retryable", `the schema registry at ${server} answers HTTP ${status}: ${told}`);
}

export function foreignAnswer(status: number, server: string): MillraceError {
  const hint =
    "A proxy or load balancer before the registry may answer in its place: look at its log. The sink tries again.";
  const message = `what answers at ${server} is not a schema registry: HTTP ${status}`;
  return registryError("MR2001", "retryable", message, { hint });
}

/** Undefined: it is no JSON, as a proxy's page. */
export function jsonIn(answer: string): unknown {
  try {
    return JSON.parse(answer);
  } catch {
    return undefined;
  }
}

function toldIn(answer: string): string {
  const told = TOLD.safeParse(jsonIn(answer));
  return (told.success ? told.data.message : answer).slice(0, TOLD_MAX);
}

export function classifyRegistry(error: unknown, server: string, signal: AbortSignal): MillraceError {
  if (error instanceof MillraceError) return error;
  if (signal.aborted) {
    return registryError("MR2029", "aborted", "the work on the schema registry was stopped", { cause: error });
  }
  if (error instanceof UnusableTls) return blocked(error.what, error.fix);
  const codes = codesOf(error);
  const tls = codes.map((code) => tlsFailure(code)).find((one) => one !== undefined);
  if (tls !== undefined) return blocked(`TLS to the schema registry at ${server} failed: ${tls.what}`, tls.fix);
  const why = isAborted(error) ? "no answer in time" : (codes[0] ?? "unknown");
  const hint = reachAgain(codes[0], server, "registry.url");
  const message = `the schema registry at ${server} can't be reached: ${why}`;
  return registryError("MR2001", "retryable", message, { hint });
}

function blocked(message: string, hint: string): MillraceError {
  return registryError("MR2003", "blocked", message, { hint: hint || undefined });
}
