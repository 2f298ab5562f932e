/** What `millrace check` says of one thing. */
import type { Finding } from "../../src/core/contracts/connector.ts";
import type { MillraceError } from "../../src/core/errors.ts";

/** Nothing is wrong. */
export function ok(id: string, what: string): Finding {
  return { id, level: "ok", what, fix: null };
}

/** The daemon works, and somebody should know. */
export function warning(id: string, what: string, fix: string | null): Finding {
  return { id, level: "warning", what, fix };
}

/** The daemon would fail. */
export function wrong(id: string, what: string, fix: string | null): Finding {
  return { id, level: "error", what, fix };
}

/** A check that ended with an error, told with its number. */
export function failed(id: string, error: MillraceError): Finding {
  const { code, message, hint } = error;
  const finding = { ...wrong(id, `${code}: ${message}`, hint ?? null), error };
  return code === "MR2008" ? { ...finding, byPrivilege: true } : finding;
}

/** Of a target that is another's, which a start takes. `owner`: see ForeignTarget; null: nobody else's. */
export function takenFrom(
  id: string,
  target: string,
  owner: string | null,
  mode: "mirror" | "history" = "mirror",
): readonly Finding[] {
  if (owner === null) return [];
  const taken =
    mode === "mirror"
      ? "a start takes it over, and that one suspends it (MR3121)"
      : "a start takes it over, or suspends it here, as a history can't be read again (MR3121)";
  const what = `${target} belongs to ${owner} (daemon and sink): ${taken}`;
  const fix = `if ${owner} is to go on writing it: another \`schema\` or \`prefix\` for this sink, or \`tables\` without it`;
  return [warning(id, what, fix)];
}

/** What a look finds; one that fails is a finding of its own. */
export async function looked(
  id: string,
  classify: (error: unknown) => MillraceError,
  look: () => Promise<readonly Finding[]>,
): Promise<readonly Finding[]> {
  try {
    return await look();
  } catch (error) {
    return [failed(id, classify(error))];
  }
}
