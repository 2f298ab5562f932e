import { ConfigError } from "../config/errors.ts";
import type { Secrets } from "../config/secrets/secrets.ts";
import { findMillraceError } from "../core/errors.ts";
import { pages } from "./errors.ts";
import { printable } from "./printable.ts";

interface FailureOutput {
  readonly json: boolean;
  readonly showStack: boolean;
  readonly secrets: Secrets;
}

/** Prints an error: as text on stderr or, with `--json`, as the one document on stdout. */
export function printFailure(error: unknown, { json, showStack, secrets }: FailureOutput): void {
  const { code, message, hint } = failureOf(error);
  if (json) {
    const problems = error instanceof ConfigError ? { problems: error.problems } : {};
    const document = { error: { code, message, hint, connector: findMillraceError(error)?.connector, ...problems } };
    process.stdout.write(`${secrets.redactJson(JSON.stringify(document, null, 2))}\n`);
    return;
  }
  const lines = [
    `error ${code}: ${message.replaceAll("\n", "\n  ")}`,
    ...(hint === null ? [] : [`  ${hint}`]),
    ...(showStack && error instanceof Error ? [error.stack ?? ""] : []),
    `  More: millrace explain ${code}`,
  ];
  process.stderr.write(`${secrets.redact(printable(lines.join("\n")))}\n`);
}

/** Number, message and hint of an error; a bug has the number for bugs. */
export function failureOf(error: unknown): { code: string; message: string; hint: string | null } {
  const known = findMillraceError(error);
  if (known !== undefined) return { code: known.code, message: known.message, hint: known.hint ?? null };
  const message = error instanceof Error ? `${error.name}: ${error.message}` : "unexpected error";
  return { code: "MR1119", message, hint: pages["MR1119"]?.remedy ?? null };
}
