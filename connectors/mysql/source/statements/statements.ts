/** Classifies a statement in the log: the beginning or end of a transaction, a change of tables, or a change of rows. */
import type { Rename } from "../../../../src/core/contracts/change-log.ts";
import type { TableName } from "../../../../src/core/contracts/connector.ts";
import { unquoted } from "../../quote.ts";

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
  | { readonly kind: "truncate"; readonly target: TableName }
  | RowStatement
  /** Tables change here, or may change. `unlogged`: tables whose rows may have changed outside the log. */
  | {
      readonly kind: "definition";
      readonly unlogged: readonly TableName[];
      readonly renames: readonly StatementRename[];
    }
  | { readonly kind: "other" };

/** Changes rows by itself: the log does not have them. */
export interface RowStatement {
  readonly kind: "rows";
  /** The one table or view that it writes to; null: perhaps each that it names. */
  readonly target: TableName | null;
  /** `target` is a temporary table: no other session has it. */
  readonly isTemporary: boolean;
  /** Of a statement over several tables those that it writes to; null: not certain. */
  readonly several: readonly TableName[] | null;
  /** It only asks: if something is written, then by functions that it calls. */
  readonly isQuery: boolean;
  /** No row of `target` stays. */
  readonly isOfAll: boolean;
  /** Without comments. */
  readonly text: string;
  /** The database in use. */
  readonly schema: string;
}

/** See `Rename`. */
interface StatementRename {
  readonly from: TableName;
  readonly to: TableName;
  readonly columns: readonly (readonly [from: string, to: string])[];
  readonly how: Rename["how"];
}

const NAME = '(?:`((?:[^`]|``)+)`|"((?:[^"]|"")+)"|([\\w$\\u0080-\\uffff]+))';
const NAME_ALONE = new RegExp(`^${NAME}`);
const XID = /^XA\s+\w+\s+X'([0-9a-f]*)'\s*,\s*X'([0-9a-f]*)'\s*,\s*(\d+)/i;
const TARGET_PATTERN = `${NAME}(?:\\s*\\.\\s*${NAME})?`;
const WORD_BEGINS = "(?<![\\w$\\u0080-\\uffff])";
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
      return ONE_UPDATED.test(text) ? rows(text, UPDATED, schema) : rowsOfSeveral(text, schema);
    case "DELETE":
      return ONE_DELETED.test(text) ? rows(text, DELETED, schema) : rowsOfSeveral(text, schema);
    case "WITH":
      return rowsBehind(text, behindQueries(text), schema);
    // The log contains a query only if it calls a function that changes rows.
    case "SELECT":
    case "DO":
    case "VALUES":
      return { ...rowsOfAny(text, schema), isQuery: true };
    case "ANALYZE":
    case "SET":
      // Both may stand before a statement that changes rows.
      return WITHOUT_ROWS.test(text) ? { kind: "other" } : rowsBehind(text, text.replace(ANALYZED, ""), schema);
    case "LOAD":
      return rows(text, LOADED, schema);
    case "ALTER":
      return { kind: "definition", unlogged: unloggedBy(text, schema), renames: renamesBy(text, schema) };
    case "CREATE":
      return { kind: "definition", unlogged: listed(targetOf(text, MADE, schema)), renames: madeBy(text, schema) };
    case "RENAME": {
      const renames = TABLES_RENAMED.test(text) ? renamed(text, schema) : [];
      // The new meaning of a name after it was given away.
      return { kind: "definition", unlogged: renames.map(({ to }) => to), renames };
    }
    case "REPAIR":
      // It removes rows that it can't save.
      return { kind: "definition", unlogged: namesIn(text, schema), renames: [] };
    case "DROP":
    case "IMPORT":
    case "OPTIMIZE":
      return { kind: "definition", unlogged: [], renames: [] };
    default:
      return text === "" || HARMLESS.has(first) ? { kind: "other" } : rowsOfAny(text, schema);
  }
}

/** Whether a definition of which this is the beginning may name tables and columns behind it that matter. */
export function mayNameMore(sql: string): boolean {
  return /^(?:ALTER|RENAME|REPAIR)\b/i.test(statementText(sql));
}

/** Statements of which no row changes. */
const HARMLESS = new Set(
  "CACHE CHANGE CHECK CHECKSUM FLUSH GRANT INSTALL KILL LOCK PURGE RESET REVOKE SHUTDOWN STOP UNINSTALL UNLOCK".split(
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
  return { ...rowsOfAny(text, schema), target, isOfAll: target !== null && EMPTIED.test(text) };
}

export function rowsOfAny(text: string, schema: string): RowStatement {
  return {
    kind: "rows",
    target: null,
    isTemporary: false,
    several: null,
    isQuery: false,
    isOfAll: false,
    text,
    schema,
  };
}

/** `main` is what is done in the end; the whole text may call functions. Null: it is not certain. */
function rowsBehind(text: string, main: string | null, schema: string): RowStatement {
  const kind = main === null || main === text ? null : kindOfStatement(main, schema);
  return kind?.kind === "rows" ? { ...kind, text } : rowsOfAny(text, schema);
}

const ANALYZED = /^ANALYZE\s+(?:FORMAT\s*=\s*\w+\s+)?(?=(?:DELETE|INSERT|REPLACE|SELECT|UPDATE|WITH)\b)/i;

/** The statement behind the queries that WITH gives names. */
function behindQueries(text: string): string | null {
  const tokens = tokensOf(text);
  const main = tokens === null ? undefined : tokens[wordAt(tokens, ["DELETE", "SELECT", "UPDATE"])];
  return main === undefined ? null : text.slice(main.at);
}

function rowsOfSeveral(text: string, schema: string): RowStatement {
  return { ...rowsOfAny(text, schema), several: severalWritten(text, schema) };
}

const UPDATED = /^UPDATE\s+(?:(?:LOW_PRIORITY|IGNORE)\s+)*/i;
const DELETED = /^DELETE\s+(?:(?:LOW_PRIORITY|QUICK|IGNORE)\s+)*FROM\s+/i;
/** Nothing stands behind the table's name. With IGNORE, rows may stay that foreign keys hold. */
const EMPTIED = new RegExp(`^DELETE\\s+(?:(?:LOW_PRIORITY|QUICK)\\s+)*FROM\\s+${TARGET_PATTERN}\\s*;?\\s*$`, "i");

/** From the only table to the changes: partitions, an alias, indexes to use. */
const ONE_UPDATED = new RegExp(
  `${UPDATED.source}${TARGET_PATTERN}(?:\`[^\`]*\`|"[^"]*"|'[^']*'|\\([^()]*\\)|(?!${WORD_BEGINS}(?:SET|JOIN|STRAIGHT_JOIN)\\b)[^,()\`"'])*${WORD_BEGINS}SET\\b`,
  "is",
);
/** Of several, more names or USING follow. */
const ONE_DELETED = new RegExp(
  `${DELETED.source}${TARGET_PATTERN}(?:(?<=[\`"])|(?![\\w$\\u0080-\\uffff]))(?!\\s*(?:\\.\\s*\\*\\s*)?(?:,|\\.|USING\\b))`,
  "is",
);

const LOADED =
  /^LOAD\s+(?:DATA|XML)\s+(?:(?:LOW_PRIORITY|CONCURRENT|LOCAL)\s+)*INFILE\s+(?:'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*")\s+(?:(?:REPLACE|IGNORE)\s+)?INTO\s+TABLE\s+/is;

const ALTER_TABLE = /^ALTER\s+(?:ONLINE\s+)?(?:IGNORE\s+)?TABLE\s+(?:IF\s+EXISTS\s+)?/i;
/** With IF NOT EXISTS it is also in the log if the table existed before and nothing was created. */
const MADE = /^CREATE\s+(?:OR\s+REPLACE\s+)?TABLE\s+(?!IF\s)/i;
const NOT_A_COLUMN = "(?:INDEX|KEY|FOREIGN|PRIMARY|CONSTRAINT|CHECK|DEFAULT)\\b";
/**
 * Whether it may remove rows, add some, or give a column with the same name and type other values; a false yes does no
 * harm. A unique index with IGNORE removes rows. Characters that a character set lacks, and a changed generation
 * expression, change values. So does a column that gets the name of another one: MariaDB exchanges names and places
 * of two columns, by one statement or several, without touching a row, and the table looks as before.
 */
const UNLOGGED = new RegExp(
  [
    "\\b(?:PARTITION|TABLESPACE)\\b",
    `\\bDROP\\s+(?!${NOT_A_COLUMN})`,
    "^ALTER\\s+(?:ONLINE\\s+)?IGNORE\\b",
    "\\bCONVERT\\s+TO\\b",
  ].join("|"),
  "is",
);
/** Two patterns: one that looks for the second behind each place of the first takes minutes for a long text. */
const COLUMN_CHANGED = /\b(?:MODIFY|CHANGE)\b/i;
const OTHER_VALUES = /\b(?:CHARSET|CHARACTER\s+SET|AS\s*\()/i;
const EXCHANGED = /\bEXCHANGE\s+PARTITION\s+.+?\s+WITH\s+TABLE\s+/gis;
/** MariaDB. */
const TAKEN_OUT = /\bCONVERT\s+PARTITION\s+.+?\s+TO\s+TABLE\s+/gis;
const TAKEN_IN = /\bCONVERT\s+TABLE\s+/gis;
/** The table's own new name, not that of a column or index. */
const RENAMED = /\bRENAME\s+(?!(?:COLUMN|INDEX|KEY)\b)(?:(?:TO|AS)\b\s*|=\s*)?/gis;
const TABLES_RENAMED = /^RENAME\s+TABLES?\s/i;
const RENAMED_PAIR = new RegExp(
  `${TARGET_PATTERN}\\s+(?:(?:WAIT\\s+\\d+|NOWAIT)\\s+)?TO\\s+(?<to>${TARGET_PATTERN})`,
  "gi",
);

const CREATED = new RegExp(
  `^CREATE\\s+(?:OR\\s+REPLACE\\s+)?TABLE\\s+(?<perhaps>IF\\s+NOT\\s+EXISTS\\s+)?(?<to>${TARGET_PATTERN})(?:\\s*\\(?\\s*\\bLIKE\\b\\s*(?<from>${TARGET_PATTERN}))?`,
  "i",
);

/** `RENAME COLUMN a TO b`, `CHANGE a b …`. */
const RENAMED_COLUMN = new RegExp(
  `\\b(?:RENAME\\s+COLUMN\\s+(?:IF\\s+EXISTS\\s+)?${NAME}\\s+TO|CHANGE\\s+(?:COLUMN\\s+)?(?:IF\\s+EXISTS\\s+)?${NAME})\\s+${NAME}`,
  "gi",
);

const DROPPED_COLUMN = new RegExp(
  `\\bDROP\\s+(?:COLUMN\\s+)?(?:IF\\s+EXISTS\\s+)?(?!(?:CHECK|COLUMN|CONSTRAINT|DEFAULT|FOREIGN|IF|INDEX|KEY|PARTITION|PERIOD|PRIMARY|SYSTEM)\\b)${NAME}`,
  "gi",
);

function unloggedBy(text: string, schema: string): readonly TableName[] {
  const target = targetOf(text, ALTER_TABLE, schema);
  if (target === null) return [];
  const others = [EXCHANGED, TAKEN_OUT].flatMap((start) => behind(text, start, schema));
  const column = COLUMN_CHANGED.exec(text);
  const isOther = column !== null && OTHER_VALUES.test(text.slice(column.index));
  const changed = isOther || UNLOGGED.test(text) || columnsRenamed(text).length > 0 ? [target, ...others] : [];
  return [...changed, ...behind(text, RENAMED, schema)];
}

function renamed(text: string, schema: string): readonly StatementRename[] {
  return Array.from(text.matchAll(RENAMED_PAIR)).flatMap(({ 0: pair, groups }) => {
    const from = targetOf(pair, /^/, schema);
    const to = targetOf(groups?.["to"] ?? "", /^/, schema);
    return from === null || to === null ? [] : [{ from, to, columns: [], how: "renamed" }];
  });
}

function madeBy(text: string, schema: string): readonly StatementRename[] {
  const { from: like = "", to: made = "", perhaps } = CREATED.exec(text)?.groups ?? {};
  const from = targetOf(like, /^/, schema);
  const to = targetOf(made, /^/, schema);
  if (to === null) return [];
  const isCertain = perhaps === undefined;
  const own: StatementRename = { from: to, to, columns: [], how: isCertain ? "made" : "perhaps made" };
  return from === null ? [own] : [own, { from, to, columns: [], how: isCertain ? "copied" : "perhaps copied" }];
}

const TEMPORARY_MADE = /^CREATE\s+(?:OR\s+REPLACE\s+)?TEMPORARY\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?/i;

/** Null: the statement is another one. */
export function temporaryMade(sql: string, schema: string): TableName | null {
  return targetOf(statementText(sql), TEMPORARY_MADE, schema);
}

/**
 * A part of a text that reads like a rename, where it is not certain that it is one, does no harm: at worst a table under rules
 * is held back.
 */
function renamesBy(text: string, schema: string): readonly StatementRename[] {
  const from = targetOf(text, ALTER_TABLE, schema);
  if (from === null) return [];
  const columns = columnsRenamed(text);
  const targets = behind(text, RENAMED, schema);
  const others = targets.filter(({ schema: at, table }) => at !== from.schema || table !== from.table);
  const own: StatementRename[] =
    others.length > 1
      ? others.map((to) => ({ from, to, columns, how: "exchanged" }))
      : columns.length > 0 || others.length > 0
        ? [{ from, to: others[0] ?? from, columns, how: "renamed" }]
        : [];
  const partitions: StatementRename[] = [
    ...behind(text, EXCHANGED, schema).map((other) => ({ from, to: other, columns: [], how: "exchanged" as const })),
    ...behind(text, TAKEN_OUT, schema).map((made) => ({ from, to: made, columns: [], how: "copied" as const })),
    ...behind(text, TAKEN_IN, schema).map((gone) => ({ from: gone, to: from, columns: [], how: "exchanged" as const })),
  ];
  return [...own, ...partitions];
}

/** `to` empty: it is dropped. */
function columnsRenamed(text: string): readonly (readonly [from: string, to: string])[] {
  const named = withoutTexts(text).flatMap((words) => [
    ...Array.from(words.matchAll(RENAMED_COLUMN), (match): readonly [string, string] => [
      nameOf(match, 1) ?? nameOf(match, 4) ?? "",
      nameOf(match, 7) ?? "",
    ]),
    ...Array.from(words.matchAll(DROPPED_COLUMN), (match): readonly [string, string] => [nameOf(match, 1) ?? "", ""]),
  ]);
  return distinct(named).filter(([before, now]) => before.toLowerCase() !== now.toLowerCase());
}

/** Without texts in single quotes; names may be in double ones. Where a text ends depends on the session. */
function withoutTexts(text: string): readonly string[] {
  if (!text.includes("'")) return [text];
  return QUOTED.map((quoted) => text.replaceAll(quoted, (part) => (part.startsWith("'") ? "''" : part)));
}

/** Tables that are named behind these words, each once. */
function behind(text: string, start: RegExp, schema: string): readonly TableName[] {
  return distinct(
    withoutTexts(text).flatMap((words) =>
      Array.from(words.matchAll(start), ({ 0: found, index }) =>
        targetOf(words.slice(index + found.length), /^/, schema),
      ).filter((target) => target !== null),
    ),
  );
}

function distinct<T>(items: readonly T[]): readonly T[] {
  return [...new Map(items.map((item) => [JSON.stringify(item), item])).values()];
}

function listed(target: TableName | null): readonly TableName[] {
  return target === null ? [] : [target];
}

function targetOf(text: string, start: RegExp, schema: string): TableName | null {
  const begun = start.exec(text);
  if (begun === null) return null;
  const match = TARGET.exec(text.slice(begun[0].length));
  if (match === null) return null;
  const first = nameOf(match, 1);
  const second = nameOf(match, 4);
  return second === undefined ? { schema, table: first ?? "" } : { schema: first ?? "", table: second };
}

/**
 * Everything in a text that may be the name of an object. Of `a.b` both: either may be one in the database in use. A quote
 * within a comment begins nothing; where a comment ends depends on the session too, so names in comments count.
 */
export function namesIn(text: string, schema: string): readonly TableName[] {
  const words = statementText(text);
  return [...new Set([words, text])].flatMap((one) =>
    QUOTED.flatMap((quoted) => {
      const names = one.replaceAll(quoted, (part) => (part.startsWith("'") ? " " : part));
      return Array.from(names.matchAll(EACH_TARGET)).flatMap((match) => {
        const [first = "", second] = [nameOf(match, 1), nameOf(match, 4)];
        const alone = { schema, table: first };
        return second === undefined ? [alone] : [alone, { schema: first, table: second }];
      });
    }),
  );
}

function nameOf(match: RegExpExecArray, from: number): string | undefined {
  const quoted = match[from];
  if (quoted !== undefined) return unquoted(quoted);
  return match[from + 1]?.replaceAll('""', '"') ?? match[from + 2];
}

const KEPT = ["'(?:[^'\\\\]|\\\\.|'')*'", '"(?:[^"\\\\]|\\\\.|"")*"', "`(?:[^`]|``)*`"].join("|");
/**
 * Texts and names in quotes, which are kept, a text with what says its form, as in `X'61'`; then comments, and the beginning and
 * end of one that is executed.
 */
const PARTS = new RegExp(
  `((?:(?<![\\w$])(?:[BNX]|_\\w+)(?='))?(?:${KEPT}))|--(?=\\s|$)[^\\n]*|#[^\\n]*|/\\*M?!\\d*|/\\*.*?\\*/|\\*/`,
  "gis",
);
const HAS_PARTS = /--|[#*'"`]/;
const BLANKS = new RegExp(`(${KEPT})|\\s+`, "gs");
/** MariaDB: settings for the one statement that follows. */
const SETTINGS = /^SET\s+STATEMENT\s(?:'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|[^'"])*?\sFOR\s+/i;

/**
 * A statement's words, with one blank between them and around each text and name in quotes, where servers need none. Without
 * comments, but with text that servers execute although it is written as a comment. Servers log what a client sent. A
 * comment for a newer version, which they did not execute, was already turned into a plain comment. All that is read of
 * a statement is read of this.
 */
function statementText(sql: string): string {
  const words = HAS_PARTS.test(sql) ? sql.replaceAll(PARTS, (_, quoted?: string) => ` ${quoted ?? ""} `) : sql;
  return words
    .replaceAll(BLANKS, (_, quoted?: string) => quoted ?? " ")
    .trim()
    .replace(SETTINGS, "");
}

interface Token {
  /** Of a name without its quotes, of others as they are written. */
  readonly text: string;
  readonly isName: boolean;
  /** Not in quotes: it may be a word of the language. */
  readonly isBare: boolean;
  readonly depth: number;
  /** Where it begins. */
  readonly at: number;
}

const TOKENS = /'(?:[^']|'')*'|`((?:[^`]|``)+)`|([\w$\u0080-\uffff]+)|:=|[^\s]/g;
const END: Token = { text: "", isName: false, isBare: false, depth: 0, at: 0 };

/** Null: where a text or name ends depends on the session's sql_mode. */
function tokensOf(text: string): readonly Token[] | null {
  if (/["\\]/.test(text)) return null;
  let depth = 0;
  return Array.from(text.matchAll(TOKENS), ({ 0: part, 1: quoted, 2: bare, index }): Token => {
    if (part === ")") depth--;
    const token = {
      text: quoted === undefined ? part : unquoted(quoted),
      isName: (quoted ?? bare) !== undefined,
      isBare: bare !== undefined,
      depth,
      at: index,
    };
    if (part === "(") depth++;
    return token;
  });
}

/**
 * Which tables an UPDATE or DELETE over several tables writes to; it only reads the others that it names. Whatever is not
 * certain makes the answer null: then it may write to each of them.
 */
function severalWritten(text: string, schema: string): readonly TableName[] | null {
  const tokens = tokensOf(text);
  if (tokens === null || tokens.some(({ depth, text: one }) => depth < 0 || one === "'" || one === "`")) return null;
  const found = isWord(tokens[0], "UPDATE") ? updated(tokens) : deleted(tokens);
  if (found === null) return null;
  const written = found.names.map((name) => tablesOf(name, found.tables, schema));
  return written.some((tables) => tables.length === 0) ? null : written.flat();
}

interface WriteTargets {
  /** As the statement calls them: by their names or aliases. */
  readonly names: readonly string[];
  /** The list of tables. */
  readonly tables: readonly Token[];
}

/** Each column that it sets must name its table. */
function updated(tokens: readonly Token[]): WriteTargets | null {
  const set = wordAt(tokens, ["SET"]);
  if (set < 0) return null;
  const rest = tokens.slice(set + 1);
  const end = wordAt(rest, ["WHERE", "ORDER", "LIMIT", "RETURNING"]);
  const names = betweenCommas(end < 0 ? rest : rest.slice(0, end)).map((assignment) => {
    const equals = assignment.findIndex(({ text, isName }) => !isName && (text === "=" || text === ":="));
    return dotted(assignment.slice(0, Math.max(0, equals)))?.at(-2) ?? "";
  });
  return names.every((name) => name !== "") ? { names, tables: tokens.slice(afterOptions(tokens), set) } : null;
}

const OPTIONS: ReadonlySet<string> = new Set(["LOW_PRIORITY", "QUICK", "IGNORE"]);

function afterOptions(tokens: readonly Token[]): number {
  return tokens.findIndex(({ isBare, text }, i) => i > 0 && !(isBare && OPTIONS.has(text.toUpperCase())));
}

/** `DELETE a, b FROM …` or `DELETE FROM a, b USING …`. */
function deleted(tokens: readonly Token[]): WriteTargets | null {
  const from = wordAt(tokens, ["FROM"]);
  const using = wordAt(tokens, ["USING"], from);
  const first = afterOptions(tokens);
  const [begin, middle] = first === from ? [from + 1, using] : [first, from];
  if (from < 0 || middle < 0) return null;
  const where = wordAt(tokens, ["WHERE"], middle);
  const names = betweenCommas(tokens.slice(begin, middle)).map((one) => {
    const isStarred = one.at(-1)?.text === "*" && one.at(-2)?.text === ".";
    return dotted(isStarred ? one.slice(0, -2) : one)?.at(-1) ?? "";
  });
  const tables = tokens.slice(middle + 1, where < 0 ? undefined : where);
  return names.every((name) => name !== "") ? { names, tables } : null;
}

const JOINS: ReadonlySet<string> = new Set(["JOIN", "STRAIGHT_JOIN"]);

/** The tables that a name may stand for. None: not certain, for it also stands where no table is named. */
function tablesOf(name: string, tables: readonly Token[], schema: string): readonly TableName[] {
  const found: TableName[] = [];
  for (const [i, token] of tables.entries()) {
    if (!token.isName || token.text.toLowerCase() !== name.toLowerCase()) continue;
    // It says which table a column is of, or has another name in this statement.
    if (tables[i + 1]?.text === "." || isWord(tables[i + 1], "AS")) continue;
    const before = tables[i - 1] ?? END;
    const table = tableAt(tables, isWord(before, "AS") ? i - 2 : i - 1, schema) ?? tableAt(tables, i, schema);
    if (table !== null) found.push(table);
    else if (before.text !== "." || before.isName) return [];
  }
  return found;
}

/** The table whose name ends there; null: no table is named there. */
function tableAt(tables: readonly Token[], i: number, schema: string): TableName | null {
  const token = tables[i];
  if (token?.isName !== true || isJoin(token)) return null;
  const isLong = tables[i - 1]?.text === "." && tables[i - 2]?.isName === true;
  const before = tables[i - (isLong ? 3 : 1)];
  const begins = before === undefined || before.text === "," || before.text === "(" || isJoin(before);
  return begins ? { schema: isLong ? tables[i - 2]!.text : schema, table: token.text } : null;
}

function isJoin({ isBare, text }: Token): boolean {
  return isBare && JOINS.has(text.toUpperCase());
}

/** Parts between commas outside of parentheses. */
function betweenCommas(tokens: readonly Token[]): readonly (readonly Token[])[] {
  const parts: Token[][] = [[]];
  for (const token of tokens) {
    if (token.text === "," && !token.isName && token.depth === 0) parts.push([]);
    else parts.at(-1)!.push(token);
  }
  return parts;
}

/** `a.b.c`; null: something else. */
function dotted(tokens: readonly Token[]): readonly string[] | null {
  const isDotted =
    tokens.length % 2 === 1 && tokens.every(({ text, isName }, i) => (i % 2 === 0 ? isName : text === "."));
  return isDotted ? tokens.filter(({ isName }) => isName).map(({ text }) => text) : null;
}

/** Where one of these words stands outside of parentheses; a name behind a dot is no word. */
function wordAt(tokens: readonly Token[], words: readonly string[], from = 0): number {
  return tokens.findIndex(
    (token, i) =>
      i >= from && token.depth === 0 && tokens[i - 1]?.text !== "." && words.some((word) => isWord(token, word)),
  );
}

function isWord(token: Token | undefined, word: string): boolean {
  return token?.isBare === true && token.text.toUpperCase() === word;
}
