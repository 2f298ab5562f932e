/** Reads the target by SQL over separate sessions: see core/contracts/comparing. */
import type {
  EqualRows,
  Inspection,
  KeyPage,
  ListedKey,
  RowsInOrder,
  StoredRow,
} from "../../../src/core/contracts/comparing.ts";
import { keyAtPageEnd, listedKeyOf } from "../../kit/listed-keys.ts";
import { rowIdOf } from "../../../src/core/model/row-id.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type { KeyText } from "../../../src/core/contracts/row-reads.ts";
import { normalJsonOrText } from "../../../src/core/targets/expected-json.ts";
import { aliasesOf, arraysOf, quoteIdentifier, quoteLiteral, quoteTable } from "../../../src/postgres/quote.ts";
import { rowsOf } from "./tables/found-table.ts";
import { fitted, inScope, targetName } from "./tables/names.ts";
import { visibleText } from "./values/nul.ts";
import type { FencedSession } from "./wire/fenced-session.ts";
import type { Session } from "./wire/session.ts";
import { type Answer, StatementFailure } from "../../../src/postgres/exchange.ts";
import {
  DELETED_COLUMN,
  OFFSET_COLUMN,
  OP_COLUMN,
  type TargetForm,
  VERSION_COLUMN,
} from "../../warehouse/own-columns.ts";
import { NO_TUPLE } from "../../../src/core/model/block.ts";
import { ByteWriter } from "../../../src/core/bytes.ts";
import { CELL_BINARY, CELL_TEXT, CellMap } from "../../../src/core/model/tuple.ts";
import { invariant } from "../../../src/core/invariant.ts";
import { writeText } from "../../../src/core/values/text.ts";

/** The present form of a table in the target. */
interface PresentTable {
  /** As statements name its rows. */
  readonly all: string;
  /** Those of this table alone. */
  readonly own: string;
  /** In the order of the source's columns; a missing column shows NULL. */
  readonly cells: readonly string[];
  readonly keys: readonly string[];
  readonly keyTypes: readonly string[];
}

const KEYS_PER_FETCH = 1_000;
const KEYS_PER_PAGE = 1_000;
/** How many extra rows the target may have between two keys; rows after that are read one by one. */
const EXTRA_MAX = 1_000;
const ABSENT = "NULL";

export class PostgresInspection implements Inspection {
  readonly #sink: FencedSession;
  /** The sink's option. */
  readonly #schema: string | undefined;
  readonly #form: TargetForm;
  readonly #lines = new CopyLines();
  readonly #found = new WeakMap<TableVersion, PresentTable>();
  /** Tables whose keys have another order in the target, or none. */
  readonly #scattered = new WeakSet<TableVersion>();
  #session: Session | null = null;

  constructor(sink: FencedSession, schema: string | undefined, form: TargetForm) {
    this.#sink = sink;
    this.#schema = schema;
    this.#form = form;
  }

  /**
   * The target prints what the source prints: every type of the source becomes one with the same text, except for NUL. JSON that
   * was made on the way is written otherwise than jsonb prints it.
   */
  expected(table: TableVersion, ordinal: number, text: string): string {
    const visible = visibleText(table, ordinal, text);
    return isJsonb(table, ordinal) ? normalJsonOrText(visible) : visible;
  }

  id(table: TableVersion, key: KeyText): string {
    return rowIdOf(shownKey(table, key));
  }

  async rows(table: TableVersion, keys: readonly KeyText[], signal: AbortSignal): Promise<readonly StoredRow[]> {
    const session = await this.#ready(signal);
    return await this.#forgetting(table, () => this.#rows(session, table, keys, signal));
  }

  /**
   * Walks the index from the first key to the last. If another order puts other rows between them, no row is found
   * equal.
   */
  async equal(table: TableVersion, asked: RowsInOrder, signal: AbortSignal): Promise<EqualRows | null> {
    const [first, last] = [asked.keys[0], asked.keys.at(-1)];
    const isPossible = this.#form.mode === "mirror" && !this.#scattered.has(table);
    if (!isPossible || first === undefined || last === undefined) return null;
    const session = await this.#ready(signal);
    const found = await this.#find(session, table, signal);
    if (found === null) return null;
    const rest = table.columns.map((_, ordinal) => ordinal).filter((ordinal) => !table.key.includes(ordinal));
    const order = [...table.key, ...rest];
    const list = order.map((ordinal) => found.cells[ordinal]!).join(", ");
    const key = found.keys.join(", ");
    const bound = (texts: KeyText) =>
      shownKey(table, texts)
        .map((text, i) => `${quoteLiteral(text)}::${found.keyTypes[i]}`)
        .join(", ");
    const between = `(${key}) >= (${bound(first)}) AND (${key}) <= (${bound(last)})`;
    const range = `(SELECT * FROM ${found.all} WHERE ${between} AND ${VERSION_COLUMN} <= ${asked.versionMax})`;
    const query = `SELECT ${list} FROM ${this.#live(found, range)} ORDER BY ${key} LIMIT ${asked.rows.length + EXTRA_MAX}`;
    try {
      const reading = session.query(`COPY (${query}) TO STDOUT`, signal, { onLine: (line) => this.#lines.meet(line) });
      // The server works meanwhile; its lines are compared after the next wait.
      this.#lines.expect(table, asked, order);
      await reading;
    } catch (error) {
      // A key without an order, or a changed target: `rows` finds out.
      if (session.broken || !(error instanceof StatementFailure)) throw error;
      this.#scattered.add(table);
      this.#found.delete(table);
      return null;
    }
    const { equal } = this.#lines;
    if (equal.isEqual.reduce((sum, one) => sum + one, 0) * 2 < equal.isEqual.length) this.#scattered.add(table);
    return equal;
  }

  async #ready(signal: AbortSignal): Promise<Session> {
    if (this.#session === null || this.#session.broken) this.#session = await this.#sink.beside(signal);
    return this.#session;
  }

  /** A failure may mean that the target has another form by now, so its form is read again next time. */
  async #forgetting<T>(table: TableVersion, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      this.#found.delete(table);
      throw error;
    }
  }

  async #rows(
    session: Session,
    table: TableVersion,
    keys: readonly KeyText[],
    signal: AbortSignal,
  ): Promise<readonly StoredRow[]> {
    const found = await this.#find(session, table, signal);
    if (found === null || keys.length === 0) return [];
    const shown = keys.map((key) => shownKey(table, key));
    const count = found.keys.length;
    const match = found.keys.map((name, part) => `t.${name} = k.c${part}::${found.keyTypes[part]}`).join(" AND ");
    const there = `(SELECT t.* FROM unnest(${arraysOf(count, shown)}) AS k (${aliasesOf(count)}) JOIN ${found.all} AS t ON ${match})`;
    const list = [VERSION_COLUMN, ...found.cells].join(", ");
    const answer = await session.query(`SELECT ${list} FROM ${this.#live(found, there)}`, signal);
    return answer.rows.map(([version = null, ...cells]) => ({
      id: rowIdOf(table.key.map((ordinal) => cells[ordinal] ?? "")),
      cells: cells.map((text, i) => (text !== null && isJsonb(table, i) ? normalJsonOrText(text) : text)),
      version: version === null ? null : BigInt(version),
    }));
  }

  async *keys(table: TableVersion, signal: AbortSignal): AsyncGenerator<readonly ListedKey[]> {
    const session = await this.#sink.beside(signal);
    try {
      const found = await this.#find(session, table, signal);
      if (found === null) return;
      const query = `SELECT ${found.keys.join(", ")} FROM ${this.#live(found, found.own)}`;
      await session.query(
        `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL enable_hashjoin = on; DECLARE listed NO SCROLL CURSOR FOR ${query}`,
        signal,
      );
      const fetch = (): Promise<Answer> => session.query(`FETCH ${KEYS_PER_FETCH} FROM listed`, signal);
      for (let next: Promise<Answer> | null = fetch(); next !== null;) {
        const { rows }: Answer = await next;
        // The server reads on while these are counted; a failure surfaces where it is awaited.
        next = rows.length < KEYS_PER_FETCH ? null : fetch();
        next?.catch(() => undefined);
        if (rows.length > 0) yield rows.map((row) => listedKey(table, row));
      }
    } finally {
      session.close();
    }
  }

  /** In the order of the target's primary key. */
  async page(table: TableVersion, after: string | null, signal: AbortSignal): Promise<KeyPage> {
    const session = await this.#ready(signal);
    return await this.#forgetting(table, async () => {
      const found = await this.#find(session, table, signal);
      if (found === null) return { keys: [], next: null };
      const key = found.keys.join(", ");
      const bound = after === null ? [] : keyAtPageEnd(after);
      const from = bound.map((text, part) => `${quoteLiteral(text)}::${found.keyTypes[part]}`).join(", ");
      const rows =
        after === null ? found.own : `(SELECT * FROM ${found.all} WHERE (${key}) > (${from})${inScope(table)})`;
      const query = `SELECT ${key} FROM ${this.#live(found, rows)} ORDER BY ${key} LIMIT ${KEYS_PER_PAGE}`;
      const answer = await session.query(query, signal);
      const last = answer.rows.length < KEYS_PER_PAGE ? undefined : answer.rows.at(-1);
      return {
        keys: answer.rows.map((row) => listedKey(table, row)),
        next: last === undefined ? null : JSON.stringify(last),
      };
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#session?.close();
    this.#session = null;
  }

  async #find(session: Session, table: TableVersion, signal: AbortSignal): Promise<PresentTable | null> {
    const known = this.#found.get(table) ?? (await this.#look(session, table, signal));
    // A missing column may come back.
    if (known !== null && !known.cells.includes(ABSENT)) this.#found.set(table, known);
    return known;
  }

  async #look(session: Session, table: TableVersion, signal: AbortSignal): Promise<PresentTable | null> {
    const { schema, table: name } = targetName(table, this.#schema);
    const quoted = quoteTable(schema, name);
    const { rows } = await session.query(
      `SELECT attname, format_type(atttypid, atttypmod), relkind FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE attrelid = to_regclass(${quoteLiteral(quoted)}) AND attnum > 0 AND NOT attisdropped`,
      signal,
    );
    const types = new Map(rows.map(([column, type]) => [column ?? "", type ?? "text"]));
    const names = table.columns.map((column) => fitted(column.name));
    const hasKey = table.key.every((ordinal) => types.has(names[ordinal]!));
    if (!hasKey || !types.has(VERSION_COLUMN)) return null;
    const all = rowsOf(quoted, rows[0]?.[2]);
    return {
      all,
      own: table.scope === undefined ? all : `(SELECT * FROM ${all} WHERE true${inScope(table)})`,
      cells: names.map((column, i) => {
        const type = types.get(column);
        if (type === undefined) return ABSENT;
        const isAnArray = table.columns[i]!.type.kind === "vector" && type.endsWith("[]");
        return isAnArray ? `translate(${quoteIdentifier(column)}::text, '{}', '[]')` : quoteIdentifier(column);
      }),
      keys: table.key.map((ordinal) => quoteIdentifier(names[ordinal]!)),
      keyTypes: table.key.map((ordinal) => types.get(names[ordinal]!)!),
    };
  }

  /** The rows of these that exist. */
  #live({ all, keys }: PresentTable, rows: string): string {
    const { deletes, mode } = this.#form;
    if (mode === "history") {
      const key = keys.join(", ");
      const later = `(e.${VERSION_COLUMN}, e.${OFFSET_COLUMN}) > (latest.${VERSION_COLUMN}, latest.${OFFSET_COLUMN})`;
      return `(SELECT DISTINCT ON (${key}) * FROM ${rows} AS r WHERE ${OP_COLUMN} <> 't' ORDER BY ${key}, ${VERSION_COLUMN} DESC, ${OFFSET_COLUMN} DESC) AS latest WHERE ${OP_COLUMN} <> 'd' AND NOT EXISTS (SELECT FROM ${all} AS e WHERE e.${OP_COLUMN} = 't' AND ${later})`;
    }
    return deletes === "soft" ? `${rows} AS live WHERE NOT ${DELETED_COLUMN}` : `${rows} AS live`;
  }
}

function isJsonb({ columns }: TableVersion, ordinal: number): boolean {
  const { type, native } = columns[ordinal]!;
  return type.kind === "json" && native === "jsonb";
}

function shownKey(table: TableVersion, key: KeyText): KeyText {
  return key.map((text, part) => visibleText(table, table.key[part]!, text));
}

function listedKey(table: TableVersion, row: readonly (string | null)[]): ListedKey {
  const key = row.map((text) => text ?? "");
  return listedKeyOf(table, key, key);
}

// Renders rows of the source as the lines that COPY would print, and compares them with the target's lines as bytes,
// without creating texts. Layout: chapter "COPY", section "Text Format", of the Postgres manual.

const TAB = 0x09;
const NEWLINE = 0x0a;
const BACKSLASH = 0x5c;
const SPACE = 0x20;
const LETTER_N = 0x4e;
/** The character after the backslash for a control character; 0: the character itself is printed. */
const ESCAPES = Uint8Array.from({ length: SPACE }, (_, code) => {
  const at = [0x08, TAB, NEWLINE, 0x0b, 0x0c, 0x0d].indexOf(code);
  return at < 0 ? 0 : "btnvfr".charCodeAt(at);
});

class CopyLines {
  readonly #lines = new ByteWriter(1024 * 1024);
  readonly #cells = new CellMap();
  readonly #scratch = new ByteWriter(256);
  #starts = new Uint32Array(0);
  #count = 0;
  #keyLength = 0;
  #isEqual = new Uint8Array(0);
  #byteCount = 0;
  #next = 0;
  /** Rows by the bytes of their keys; built when the two sides first get out of step. */
  #byKey: Map<string, number> | null = null;

  /** Starts with these rows; `order`: the columns in the target's order, the key's first. */
  expect(table: TableVersion, { block, rows }: RowsInOrder, order: readonly number[]): void {
    this.#count = rows.length;
    this.#keyLength = table.key.length;
    this.#isEqual = new Uint8Array(rows.length);
    this.#byteCount = 0;
    this.#next = 0;
    this.#byKey = null;
    if (this.#starts.length <= rows.length) this.#starts = new Uint32Array(rows.length + 1);
    this.#lines.reset();
    for (let i = 0; i < rows.length; i++) {
      this.#starts[i] = this.#lines.length;
      const tuple = block.after[rows[i]!]!;
      invariant(tuple !== NO_TUPLE, "only existing rows are compared in order");
      this.#cells.read(block.bytes, tuple);
      for (let k = 0; k < order.length; k++) {
        this.#writeCell(table, block.bytes, order[k]!);
        this.#lines.byte(k === order.length - 1 ? NEWLINE : TAB);
      }
    }
    this.#starts[rows.length] = this.#lines.length;
  }

  /** Compares a line of the target. Lines mostly come in the source's order. */
  meet(line: Buffer): void {
    this.#byteCount += line.length;
    if (this.#next < this.#count && this.#isLine(this.#next, line)) {
      this.#isEqual[this.#next++] = 1;
      return;
    }
    const row = this.#rowOf(line);
    if (row === undefined) return;
    if (this.#isLine(row, line)) this.#isEqual[row] = 1;
    this.#next = row + 1;
  }

  get equal(): EqualRows {
    return { isEqual: this.#isEqual, byteCount: this.#byteCount };
  }

  #isLine(row: number, line: Buffer): boolean {
    const start = this.#starts[row]!;
    const end = this.#starts[row + 1]!;
    return line.length === end - start && line.compare(this.#lines.bytes, start, end) === 0;
  }

  #rowOf(line: Buffer): number | undefined {
    if (this.#byKey === null) {
      this.#byKey = new Map();
      for (let row = 0; row < this.#count; row++)
        this.#byKey.set(this.#keyIn(this.#lines.bytes, this.#starts[row]!, this.#starts[row + 1]!), row);
    }
    return this.#byKey.get(this.#keyIn(line, 0, line.length));
  }

  /** Values contain no tab, so the key ends at the tab, or the line end, after its last column. */
  #keyIn(bytes: Buffer, start: number, end: number): string {
    let at = start;
    for (let left = this.#keyLength; at < end; at++) {
      if ((bytes[at] === TAB || bytes[at] === NEWLINE) && --left === 0) break;
    }
    return bytes.toString("latin1", start, at);
  }

  #writeCell(table: TableVersion, bytes: Uint8Array, ordinal: number): void {
    const kind = this.#cells.kind[ordinal]!;
    const start = this.#cells.start[ordinal]!;
    const length = this.#cells.length[ordinal]!;
    if (kind === CELL_TEXT) this.#writeEscaped(bytes, start, length);
    else if (kind === CELL_BINARY) {
      this.#scratch.reset();
      writeText(this.#scratch, table.columns[ordinal]!.type, kind, bytes, start, length);
      this.#writeEscaped(this.#scratch.bytes, 0, this.#scratch.length);
    } else {
      this.#lines.byte(BACKSLASH);
      this.#lines.byte(LETTER_N);
    }
  }

  #writeEscaped(from: Uint8Array, start: number, length: number): void {
    const out = this.#lines;
    out.reserve(length * 2);
    const to = out.bytes;
    let write = out.length;
    for (let read = start, end = start + length; read < end; read++) {
      const byte = from[read]!;
      const escape = byte === BACKSLASH ? BACKSLASH : byte < SPACE ? ESCAPES[byte]! : 0;
      if (escape === 0) to[write++] = byte;
      else {
        to[write++] = BACKSLASH;
        to[write++] = escape;
      }
    }
    out.length = write;
  }
}
