import type { DatabaseReason } from "../core/errors.ts";

/** By SQLSTATE, else by its class, the first two characters (the manual's appendix A). */
const REASONS: Readonly<Record<string, DatabaseReason>> = {
  "08": "lost",
  "22": "content",
  // A text that does not fit the column's type, or that the database's encoding can't represent.
  "22003": "no-value",
  "22007": "no-value",
  "22008": "no-value",
  "22021": "encoding",
  "22P02": "no-value",
  "22P05": "encoding",
  "22023": "parameter",
  "23": "content",
  "25006": "read-only",
  "25P03": "idle",
  "25P04": "idle",
  "28": "login",
  "3D": "login",
  "3F000": "no-table",
  "40": "conflict",
  "42501": "privilege",
  "42703": "no-column",
  "42704": "no-object",
  "42710": "exists",
  "42P01": "no-table",
  // A view's check option, and a user's trigger that raises an error.
  "44": "content",
  P0001: "content",
  "53": "resources",
  "53100": "disk",
  "53300": "connections",
  "53400": "slots",
  // An index entry of more than a third of a page, or a row with too many columns.
  "54": "content",
  "55000": "not-now",
  "55006": "in-use",
  "55P03": "lock",
  "57": "ending",
  "57014": "cancelled",
  "58": "system",
  "58P01": "no-file",
  XX: "internal",
};

/** `text`, the server's message, distinguishes cases that share one SQLSTATE. */
export function reasonOfState(state: string, text: string): DatabaseReason {
  const reason = REASONS[state] ?? REASONS[state.slice(0, 2)] ?? "refused";
  // The same for a text of ours: NUL, which no text may hold, or characters of UTF-8 that the database's encoding lacks.
  if (reason === "encoding" && /"UTF8": 0x00$|"UTF8"[^"]*"[^"]+"$/.test(text)) return "no-value";
  // With row_security=off the server refuses a read that a policy would restrict.
  if (reason === "privilege" && /row-level security/.test(text)) return "row-security";
  // The same SQLSTATE as that of a server without a free slot.
  if (reason === "slots" && /temp_file_limit/.test(text)) return "resources";
  if (reason === "lost" && /startup parameter|pgbouncer|pooler/i.test(text)) return "pooler";
  return reason;
}
