/**
 * Which tables an UPDATE or DELETE over several tables writes to; it only reads the others that it names. Whatever is not
 * certain makes the answer null: then it may write to each of them.
 */
import type { TableName } from "../../../../src/core/contracts/connector.ts";

interface Token {
  /** Of a name without its quotes, of others as they are written. */
  readonly text: string;
  readonly isName: boolean;
  /** Not in quotes: it may be a word of the language. */
  readonly isBare: boolean;
  readonly depth: number;
}

const PARTS = /'(?:[^']|'')*'|`((?:[^`]|``)+)`|([\w$\u0080-\uffff]+)|:=|[^\s]/g;
const END: Token = { text: "", isName: false, isBare: false, depth: 0 };

/** Null: where a text or name ends depends on the session's sql_mode. */
function tokensOf(text: string): readonly Token[] | null {
  if (/["\\]/.test(text)) return null;
  let depth = 0;
  return Array.from(text.matchAll(PARTS), ([part, quoted, bare]): Token => {
    if (part === ")") depth--;
    const token = {
      text: quoted?.replaceAll("``", "`") ?? part,
      isName: (quoted ?? bare) !== undefined,
      isBare: bare !== undefined,
      depth,
    };
    if (part === "(") depth++;
    return token;
  });
}

/** `schema`: the database in use. */
export function severalWritten(text: string, schema: string): readonly TableName[] | null {
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
  const names = listed(end < 0 ? rest : rest.slice(0, end)).map((assignment) => {
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
  const names = listed(tokens.slice(begin, middle)).map((one) => {
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
function listed(tokens: readonly Token[]): readonly (readonly Token[])[] {
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
