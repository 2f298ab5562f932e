/** Classifies a statement in the log: the beginning or end of a transaction, a change of tables, or a change of rows. */
import { severalWritten } from "./several-tables.ts";
import { statementText } from "./statement-text.ts";

export type StatementKind =
  | { readonly kind: "begin" }
  | { readonly kind: "commit" }
  | { readonly kind: "rollback" }
  | { readonly kind: "savepoint"; readonly name: string }
  /** To a savepoint. */
  | { readonly kind: "partial rollback"; readonly name: string }
  | { readonly kind: "xa start" }
  | { readonly kind: "xa end" }
  /** The outcome of a prepared one; null: its name is unknown. */
  | { readonly kind: "xa commit" | "xa rollback"; readonly name: string | null }
  | { readonly kind: "truncate"; readonly target: StatementTarget }
  | RowStatement
  /** Tables change here, or may change. `unlogged`: tables whose rows may have changed outside the log. */
  | {
      readonly kind: "definition";
      readonly unlogged: readonly StatementTarget[];
      readonly renames: readonly StatementRename[];
    }
  | { readonly kind: "other" };

/** Changes rows by itself: the log does not have them. */
export interface RowStatement {
  readonly kind: "rows";
  /** The one table or view that it writes to; null: perhaps each that it names. */
  readonly target: StatementTarget | null;
  /** Of a statement over several tables those that it writes to; null: not certain. */
  readonly several: readonly StatementTarget[] | null;
  /** It only asks: if something is written, then by functions that it calls. */
  readonly isQuery: boolean;
  /** No row of `target` stays. */
  readonly isOfAll: boolean;
  /** Without comments. */
  readonly text: string;
  /** The database in use. */
  readonly schema: string;
}

export interface StatementTarget {
  readonly schema: string;
  readonly table: string;
}

/** See `Rename`. */
export interface StatementRename {
  readonly from: StatementTarget;
  readonly to: StatementTarget;
  readonly columns: readonly (readonly [from: string, to: string])[];
  readonly isExchange: boolean;
}

const NAME = '(?:`((?:[^`]|``)+)`|"((?:[^"]|"")+)"|([\\w$\\u0080-\\uffff]+))';
const NAME_ALONE = new RegExp(`^${NAME}`);
const XID = /^XA\s+\w+\s+X'([0-9a-f]*)'\s*,\s*X'([0-9a-f]*)'\s*,\s*(\d+)/i;
const TARGET_PATTERN = `${NAME}(?:\\s*\\.\\s*${NAME})?`;
const TARGET = new RegExp(`^${TARGET_PATTERN}`);
const EACH_TARGET = new RegExp(TARGET_PATTERN, "g");
/** Texts and names in quotes, as sessions write them that take a backslash for an escape, and as others do. */
const QUOTED = [
  /`(?:[^`]|``)*`|"(?:[^"\\]|\\.|"")*"|'(?:[^'\\]|\\.|'')*'/gs,
  /`(?:[^`]|``)*`|"(?:[^"]|"")*"|'(?:[^']|'')*'/gs,
];

/** `schema`: the database in use, for names without one. */
export function kindOfStatement(sql: string, schema: string): StatementKind {
  const text = statementText(sql);
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
      return target === null ? { kind: "definition", unlogged: [], renames: [] } : { kind: "truncate", target };
    }
    case "INSERT":
    case "REPLACE":
      return rows(text, /^\w+\s+(?:(?:LOW_PRIORITY|DELAYED|HIGH_PRIORITY|IGNORE)\s+)*(?:INTO\s+)?/i, schema);
    case "UPDATE":
      return SEVERAL_UPDATED.test(text)
        ? rowsOfSeveral(text, schema)
        : rows(text, /^UPDATE\s+(?:(?:LOW_PRIORITY|IGNORE)\s+)*/i, schema);
    case "DELETE":
      return SEVERAL_DELETED.test(text) ? rowsOfSeveral(text, schema) : rows(text, DELETED, schema);
    // The log contains a query only if it calls a function that changes rows.
    case "SELECT":
    case "DO":
    case "VALUES":
      return { ...rowsOfAny(text, schema), isQuery: true };
    case "ANALYZE":
    case "SET":
      // Both may stand before a statement that changes rows.
      return WITHOUT_ROWS.test(text) ? { kind: "other" } : rowsOfAny(text, schema);
    case "LOAD":
      return rows(text, LOADED, schema);
    case "ALTER":
      return { kind: "definition", unlogged: unloggedBy(text, schema), renames: renamesBy(text, schema) };
    case "CREATE":
      return { kind: "definition", unlogged: listed(targetOf(text, MADE, schema)), renames: [] };
    case "RENAME": {
      const renames = renamed(text, schema);
      // The new meaning of a name after it was given away.
      return { kind: "definition", unlogged: renames.map(({ to }) => to), renames };
    }
    case "DROP":
    case "IMPORT":
      return { kind: "definition", unlogged: [], renames: [] };
    default:
      return text === "" || HARMLESS.has(first) ? { kind: "other" } : rowsOfAny(text, schema);
  }
}

/** Statements of which no row changes. */
const HARMLESS = new Set(
  "CACHE CHANGE CHECK CHECKSUM FLUSH GRANT INSTALL KILL LOCK OPTIMIZE PURGE REPAIR RESET REVOKE SHUTDOWN STOP UNINSTALL UNLOCK".split(
    " ",
  ),
);
const WITHOUT_ROWS = /^(?:ANALYZE\s+(?:(?:LOCAL|NO_WRITE_TO_BINLOG)\s+)?TABLES?\s|SET\s+(?!STATEMENT\s))/i;

function kindOfRollback(text: string): StatementKind {
  const begun = /^ROLLBACK\s+(?:WORK\s+)?TO\s+(?:SAVEPOINT\s+)?/i.exec(text);
  if (begun === null) return { kind: "rollback" };
  return { kind: "partial rollback", name: savepointName(text.slice(begun[0].length)) };
}

/** Compared without regard to case. */
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

function rows(text: string, start: RegExp, schema: string): RowStatement {
  const target = targetOf(text, start, schema);
  const isOfAll = target !== null && start === DELETED && EMPTIED.test(text.replace(start, ""));
  return { ...rowsOfAny(text, schema), target, isOfAll };
}

export function rowsOfAny(text: string, schema: string): RowStatement {
  return { kind: "rows", target: null, several: null, isQuery: false, isOfAll: false, text, schema };
}

function rowsOfSeveral(text: string, schema: string): RowStatement {
  return { ...rowsOfAny(text, schema), several: severalWritten(text, schema) };
}

const DELETED = /^DELETE\s+(?:(?:LOW_PRIORITY|QUICK|IGNORE)\s+)*FROM\s+/i;
/** Nothing stands behind the table's name. */
const EMPTIED = new RegExp(`^${TARGET_PATTERN}\\s*;?\\s*$`);

/** Further tables after the first one, up to where the changes or conditions begin. */
const SEVERAL_UPDATED = /^UPDATE\s(?:(?!\sSET\s).)*?(?:,|\sJOIN\s|\sSTRAIGHT_JOIN\s)/is;
const SEVERAL_DELETED = /^DELETE\s(?:(?!\sWHERE\s).)*?(?:,|\sJOIN\s|\sUSING\s)/is;

const LOADED =
  /^LOAD\s+(?:DATA|XML)\s+(?:(?:LOW_PRIORITY|CONCURRENT|LOCAL)\s+)*INFILE\s+(?:'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*")\s+(?:(?:REPLACE|IGNORE)\s+)?INTO\s+TABLE\s+/is;

const ALTER_TABLE = /^ALTER\s+(?:ONLINE\s+)?(?:IGNORE\s+)?TABLE\s+(?:IF\s+EXISTS\s+)?/i;
/** With IF NOT EXISTS it is also in the log if the table existed before and nothing was created. */
const MADE = /^CREATE\s+(?:OR\s+REPLACE\s+)?TABLE\s+(?!IF\s)/i;
const NOT_A_COLUMN = "(?:INDEX|KEY|FOREIGN|PRIMARY|CONSTRAINT|CHECK|DEFAULT)\\b";
/**
 * Whether it may remove rows, add some, or give a column with the same name and type other values; a false yes does no
 * harm. A unique index with IGNORE removes rows. Characters that a character set lacks, and a changed generation
 * expression, change values.
 */
const UNLOGGED = new RegExp(
  [
    "\\b(?:PARTITION|TABLESPACE)\\b",
    `\\bDROP\\s+(?!${NOT_A_COLUMN})`,
    "^ALTER\\s+(?:ONLINE\\s+)?IGNORE\\b",
    "\\bCONVERT\\s+TO\\b",
    "\\b(?:MODIFY|CHANGE)\\b.*\\b(?:CHARSET|CHARACTER\\s+SET|AS\\s*\\()",
  ].join("|"),
  "is",
);
const EXCHANGED = /\bEXCHANGE\s+PARTITION\s+.+?\s+WITH\s+TABLE\s+/is;
/** The table's own new name, not that of a column or index. */
const RENAMED = /\bRENAME\s+(?!(?:COLUMN|INDEX|KEY)\b)(?:(?:TO|AS)\b\s*|=\s*)?/is;
const RENAMED_PAIR = new RegExp(
  `${TARGET_PATTERN}\\s+(?:(?:WAIT\\s+\\d+|NOWAIT)\\s+)?TO\\s+(?<to>${TARGET_PATTERN})`,
  "gi",
);

/** `RENAME COLUMN a TO b`, `CHANGE a b …`. */
const RENAMED_COLUMN = new RegExp(
  `\\b(?:RENAME\\s+COLUMN\\s+(?:IF\\s+EXISTS\\s+)?${NAME}\\s+TO|CHANGE\\s+(?:COLUMN\\s+)?(?:IF\\s+EXISTS\\s+)?${NAME})\\s+${NAME}`,
  "gi",
);

function unloggedBy(text: string, schema: string): readonly StatementTarget[] {
  const target = targetOf(text, ALTER_TABLE, schema);
  if (target === null) return [];
  const changed = UNLOGGED.test(text) ? [target, ...listed(behind(text, EXCHANGED, schema))] : [];
  return [...changed, ...listed(behind(text, RENAMED, schema))];
}

function renamed(text: string, schema: string): readonly StatementRename[] {
  return Array.from(text.matchAll(RENAMED_PAIR)).flatMap(({ 0: pair, groups }) => {
    const from = targetOf(pair, /^/, schema);
    const to = targetOf(groups?.["to"] ?? "", /^/, schema);
    return from === null || to === null ? [] : [{ from, to, columns: [], isExchange: false }];
  });
}

/** A part of a comment or a default that reads like a rename does no harm: at worst a table under rules is held back. */
function renamesBy(text: string, schema: string): readonly StatementRename[] {
  const from = targetOf(text, ALTER_TABLE, schema);
  if (from === null) return [];
  const named = Array.from(text.matchAll(RENAMED_COLUMN), (match): readonly [string, string] => [
    nameOf(match, 1) ?? nameOf(match, 4) ?? "",
    nameOf(match, 7) ?? "",
  ]);
  const columns = named.filter(([before, now]) => before.toLowerCase() !== now.toLowerCase());
  const to = behind(text, RENAMED, schema) ?? from;
  const isOther = to.schema !== from.schema || to.table !== from.table;
  const own = columns.length > 0 || isOther ? [{ from, to, columns, isExchange: false }] : [];
  const exchanged = listed(behind(text, EXCHANGED, schema));
  return [...own, ...exchanged.map((other) => ({ from, to: other, columns: [], isExchange: true }))];
}

function behind(text: string, start: RegExp, schema: string): StatementTarget | null {
  const begun = start.exec(text);
  return begun === null ? null : targetOf(text.slice(begun.index), start, schema);
}

function listed(target: StatementTarget | null): readonly StatementTarget[] {
  return target === null ? [] : [target];
}

function targetOf(text: string, start: RegExp, schema: string): StatementTarget | null {
  const begun = start.exec(text);
  if (begun === null) return null;
  const match = TARGET.exec(text.slice(begun[0].length));
  if (match === null) return null;
  const first = nameOf(match, 1);
  const second = nameOf(match, 4);
  return second === undefined ? { schema, table: first ?? "" } : { schema: first ?? "", table: second };
}

/** Everything in a text that may be the name of an object. Of `a.b` both: either may be one in the database in use. */
export function namesIn(text: string, schema: string): readonly StatementTarget[] {
  return QUOTED.flatMap((quoted) => {
    const names = text.replaceAll(quoted, (part) => (part.startsWith("'") ? " " : part));
    return Array.from(names.matchAll(EACH_TARGET)).flatMap((match) => {
      const [first = "", second] = [nameOf(match, 1), nameOf(match, 4)];
      const alone = { schema, table: first };
      return second === undefined ? [alone] : [alone, { schema: first, table: second }];
    });
  });
}

function nameOf(match: RegExpExecArray, from: number): string | undefined {
  return match[from]?.replaceAll("``", "`") ?? match[from + 1]?.replaceAll('""', '"') ?? match[from + 2];
}
