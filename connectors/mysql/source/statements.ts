/** What a statement in the log is: the beginning or end of a transaction, a change of tables, or one of rows. */

export type StatementKind =
  | { readonly kind: "begin" }
  | { readonly kind: "commit" }
  | { readonly kind: "rollback" }
  | { readonly kind: "savepoint"; readonly name: string }
  /** To a savepoint. */
  | { readonly kind: "partial rollback"; readonly name: string }
  | { readonly kind: "xa start" }
  | { readonly kind: "xa end" }
  /** The outcome of one that was prepared; null: its name can't be told. */
  | { readonly kind: "xa commit" | "xa rollback"; readonly name: string | null }
  | { readonly kind: "truncate"; readonly target: StatementTarget }
  /** Changes rows by itself; null: which table's can't be told. */
  | { readonly kind: "rows"; readonly target: StatementTarget | null }
  /** Tables are others from here on, or may be. `unlogged`: those that may have other rows, without a word of them. */
  | { readonly kind: "definition"; readonly unlogged: readonly StatementTarget[] }
  | { readonly kind: "other" };

export interface StatementTarget {
  readonly schema: string;
  readonly table: string;
}

const BLANKS = /^(?:\s+|--[ \t][^\n]*\n|#[^\n]*\n|\/\*(?![!M])[\s\S]*?\*\/)+/;
const COMMENTS = /\/\*(?![!M])[\s\S]*?\*\//g;
/** Verb and name lie in here. */
const HEAD_CHARACTERS = 1_000;
const NAME = '(?:`((?:[^`]|``)+)`|"((?:[^"]|"")+)"|([\\w$\\u0080-\\uffff]+))';
const NAME_ALONE = new RegExp(`^${NAME}`);
const XID = /^XA\s+\w+\s+X'([0-9a-f]*)'\s*,\s*X'([0-9a-f]*)'\s*,\s*(\d+)/i;
const TARGET = new RegExp(`^${NAME}(?:\\s*\\.\\s*${NAME})?`);

/** `schema`: the database in use, for names without one. */
export function kindOfStatement(sql: string, schema: string): StatementKind {
  const text = sql.replace(BLANKS, "");
  const [first = "", second = ""] = text
    .slice(0, 200)
    .split(/[\s;(]+/, 2)
    .map((word) => word.toUpperCase());
  switch (first) {
    case "BEGIN":
    case "START":
      return { kind: "begin" };
    case "COMMIT":
      return { kind: "commit" };
    case "ROLLBACK":
      return kindOfRollback(text);
    case "SAVEPOINT":
      return { kind: "savepoint", name: savepointName(text.slice(first.length)) };
    case "XA":
      return kindOfXa(second, text);
    case "TRUNCATE": {
      const target = targetOf(text, /^TRUNCATE\s+(?:TABLE\s+)?/i, schema);
      return target === null ? { kind: "definition", unlogged: [] } : { kind: "truncate", target };
    }
    case "INSERT":
    case "REPLACE":
      return rows(text, /^\w+\s+(?:(?:LOW_PRIORITY|DELAYED|HIGH_PRIORITY|IGNORE)\s+)*(?:INTO\s+)?/i, schema);
    case "UPDATE":
      return rows(text, /^UPDATE\s+(?:(?:LOW_PRIORITY|IGNORE)\s+)*/i, schema);
    case "DELETE":
      return rows(text, /^DELETE\s+(?:(?:LOW_PRIORITY|QUICK|IGNORE)\s+)*FROM\s+/i, schema);
    case "LOAD":
      return { kind: "rows", target: null };
    case "ALTER":
      return { kind: "definition", unlogged: unloggedBy(text, schema) };
    case "CREATE":
    case "DROP":
    case "RENAME":
      return { kind: "definition", unlogged: [] };
    default:
      return { kind: "other" };
  }
}

function kindOfRollback(text: string): StatementKind {
  const begun = /^ROLLBACK\s+(?:WORK\s+)?TO\s+(?:SAVEPOINT\s+)?/i.exec(text);
  if (begun === null) return { kind: "rollback" };
  return { kind: "partial rollback", name: savepointName(text.slice(begun[0].length)) };
}

/** They are compared without regard to case. */
function savepointName(text: string): string {
  const match = NAME_ALONE.exec(text.trim());
  return (match === null ? text.trim() : (nameOf(match, 1) ?? "")).toLowerCase();
}

function kindOfXa(word: string, text: string): StatementKind {
  if (word === "START" || word === "BEGIN") return { kind: "xa start" };
  if (word === "END") return { kind: "xa end" };
  const [, gtrid, bqual, format] = XID.exec(text) ?? [];
  const name = gtrid === undefined ? null : xidName(gtrid, bqual ?? "", format ?? "1");
  return { kind: word === "COMMIT" ? "xa commit" : "xa rollback", name };
}

/** `gtrid` and `bqual` in hexadecimal digits, as the servers write them. */
export function xidName(gtrid: string, bqual: string, format: string): string {
  return `${gtrid.toLowerCase()},${bqual.toLowerCase()},${format}`;
}

function rows(text: string, start: RegExp, schema: string): StatementKind {
  return { kind: "rows", target: targetOf(text, start, schema) };
}

const ALTER_TABLE = /^ALTER\s+(?:ONLINE\s+)?(?:IGNORE\s+)?TABLE\s+(?:IF\s+EXISTS\s+)?/i;
const NOT_A_COLUMN = "(?:INDEX|KEY|FOREIGN|PRIMARY|CONSTRAINT|CHECK|DEFAULT)\\b";
/** May take rows away, bring some, or give a column of the same name other values; too much here does no harm. */
const UNLOGGED = new RegExp(`\\b(?:PARTITION|TABLESPACE)\\b|\\bDROP\\s+(?!${NOT_A_COLUMN})`, "i");
const EXCHANGED = /\bEXCHANGE\s+PARTITION\s+.+?\s+WITH\s+TABLE\s+/is;

function unloggedBy(text: string, schema: string): readonly StatementTarget[] {
  const target = targetOf(text, ALTER_TABLE, schema);
  const plain = text.replaceAll(COMMENTS, " ");
  if (target === null || !UNLOGGED.test(plain)) return [];
  const other = targetOf(plain.slice(EXCHANGED.exec(plain)?.index ?? plain.length), EXCHANGED, schema);
  return other === null ? [target] : [target, other];
}

function targetOf(text: string, start: RegExp, schema: string): StatementTarget | null {
  const plain = text.slice(0, HEAD_CHARACTERS).replaceAll(COMMENTS, " ");
  const begun = start.exec(plain);
  if (begun === null) return null;
  const match = TARGET.exec(plain.slice(begun[0].length));
  if (match === null) return null;
  const first = nameOf(match, 1);
  const second = nameOf(match, 4);
  return second === undefined ? { schema, table: first ?? "" } : { schema: first ?? "", table: second };
}

function nameOf(match: RegExpExecArray, from: number): string | undefined {
  return match[from]?.replaceAll("``", "`") ?? match[from + 1]?.replaceAll('""', '"') ?? match[from + 2];
}
