/** Documents as rows, each assembled by SQLite in the snapshot of the statement that reads it. */
import { constants } from "node:buffer";
import type { DatabaseSync, SQLInputValue, SQLOutputValue, StatementSync } from "node:sqlite";
import { ByteWriter } from "../../../src/core/bytes.ts";
import type { KeyText } from "../../../src/core/contracts/row-reads.ts";
import { invariant } from "../../../src/core/invariant.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { isComputed, TupleWriter } from "../../../src/core/model/tuple.ts";
import { prepareQuery } from "../../sqlite/file.ts";
import { keyTerm, keyValue } from "../../sqlite/inspect/inspect.ts";
import { type Assembly, assemblyOf, ROOT } from "../assembly.ts";
import { CHANGED } from "../climbing.ts";
import type { PlannedDocument } from "../plan.ts";
import { readable, textOf } from "../values.ts";
import { isTransformed, type Transformed, Transforming, type Transforms } from "../../../src/documents/transforms.ts";
import { columnsOf, type DocumentColumns } from "./tables.ts";

/** The statements of one document on one connection. */
export class DocumentRows {
  readonly #assembly: Assembly;
  readonly #columns: DocumentColumns;
  readonly #transforming: Transforming | null;
  readonly #keyCount: number;
  readonly #changed: Query;
  readonly #changedKey: Query;
  readonly #range: RowStatements;
  readonly #first: RowStatements;
  readonly #one: Query;
  readonly #listed: Query;

  constructor(database: DatabaseSync, planned: PlannedDocument, transforms: Transforms) {
    const assembly = (this.#assembly = assemblyOf(planned));
    const { document } = planned;
    this.#columns = columnsOf(planned);
    this.#transforming = isTransformed(document) ? new Transforming(document, this.#columns, transforms) : null;
    const { layout } = assembly.root;
    const { key, sqlName } = layout;
    const isThere = assembly.condition === null ? "true" : assembly.condition;
    const joined = key.map((column, i) => `${ROOT}.${column.sqlName} = c.k${i + 1}`).join(" AND ");
    const keys = key.map((column, i) => readable({ ...column, sqlName: `k${i + 1}` }, "c"));
    const hasRow = `CASE WHEN ${ROOT}.${key[0]!.sqlName} IS NULL THEN 0 WHEN ${isThere} THEN 1 ELSE 0 END`;
    this.#keyCount = key.length;
    this.#changed = new Query(
      database,
      `SELECT c.seq, ${hasRow}, ${[...keys, ...assembly.values].join(", ")} ` +
        `FROM ${CHANGED} AS c LEFT JOIN ${sqlName} AS ${ROOT} ON ${joined} ` +
        `WHERE c.document = ${planned.id} AND c.seq BETWEEN ? AND ? ORDER BY c.seq`,
    );
    this.#changedKey = new Query(
      database,
      `SELECT c.seq, ${keys.join(", ")} FROM ${CHANGED} AS c ` +
        `WHERE c.document = ${planned.id} AND c.seq BETWEEN ? AND ? ORDER BY c.seq LIMIT 1`,
    );
    const parts = key.map((column) => `${ROOT}.${column.sqlName}`);
    const given = key.map(({ source }, i) => keyTerm(source, i + 1, true));
    const select = (values: readonly string[], where: string, rest: string): Query =>
      new Query(
        database,
        `SELECT ${values.join(", ")} FROM ${sqlName} AS ${ROOT} WHERE ${where} AND ${isThere} ${rest}`,
      );
    const order = `ORDER BY ${parts.join(", ")}`;
    const rootKeys = key.map((column) => readable(column, ROOT));
    const inOrder = (where: string): RowStatements => ({
      whole: select(assembly.values, where, order),
      key: select(rootKeys, where, `${order} LIMIT 1`),
    });
    this.#range = inOrder(`(${parts.join(", ")}) > (${given.join(", ")})`);
    this.#first = inOrder("true");
    this.#one = select(assembly.values, parts.map((part, i) => `${part} = ${given[i]}`).join(" AND "), "");
    const isKey = given.map((term, i) => `k${i + 1} = ${term}`).join(" AND ");
    this.#listed = new Query(database, `SELECT 1 FROM ${CHANGED} WHERE document = ${planned.id} AND ${isKey}`);
  }

  /** Entries of the list from `from` to `to`, in their order. */
  *changed(from: bigint, to: bigint): Generator<ChangedDocument> {
    for (let next = from; ;) {
      let cause: Error;
      try {
        for (const row of this.#changed.iterate(next, to)) {
          const [seq, isThere, ...values] = Object.values(row);
          if (typeof seq !== "bigint") continue;
          const key = values.slice(0, this.#keyCount);
          yield { seq, key, document: isThere === 1n ? values.slice(this.#keyCount) : null };
          next = seq + 1n;
        }
        return;
      } catch (error) {
        if (!isTooLarge(error)) throw error;
        cause = error;
      }
      const [seq, ...key] = Object.values(this.#changedKey.get(next, to) ?? {});
      invariant(typeof seq === "bigint", "what is too large is of an entry");
      yield { seq, key, document: new TooLarge(this.#keyTexts(key), cause) };
      next = seq + 1n;
    }
  }

  /** In the order of the key, behind `after`; null: from the first one. */
  *range(after: KeyText | null): Generator<ReadDocument> {
    for (let last = after; ;) {
      let cause: Error;
      const behind = () => (last === null ? [] : this.#bound(last));
      const statements = () => (last === null ? this.#first : this.#range);
      let read: ReadDocument | null = null;
      try {
        for (const row of statements().whole.iterate(...behind())) yield (read = Object.values(row));
        return;
      } catch (error) {
        if (!isTooLarge(error)) throw error;
        cause = error;
      }
      if (read !== null) last = this.keyOf(read);
      last = this.#keyTexts(Object.values(statements().key.get(...behind()) ?? {}));
      yield new TooLarge(last, cause);
    }
  }

  one(key: KeyText): ReadDocument | null {
    try {
      const row = this.#one.get(...this.#bound(key));
      return row === undefined ? null : Object.values(row);
    } catch (error) {
      if (!isTooLarge(error)) throw error;
      return new TooLarge(key, error);
    }
  }

  /** Whether it has changed, and is not in all sinks yet. */
  isListed(key: KeyText): boolean {
    return this.#listed.get(...this.#bound(key)) !== undefined;
  }

  #bound(key: KeyText): SQLInputValue[] {
    return this.#assembly.root.layout.key.map(({ source }, i) => keyValue(source, key[i]!, true));
  }

  /** The canonical texts of what `range` or `one` has read, as the sinks get them. */
  made(values: ReadDocument): Transformed {
    if (values instanceof TooLarge) return { kind: "failed", how: TOO_LARGE };
    const { columns } = this.#assembly;
    const texts = values.map((value, i) => {
      const column = columns[i];
      return column === undefined ? textOfRelation(value) : textOf(column, value);
    });
    return this.#transforming === null ? { kind: "document", texts } : this.#transforming.apply(texts);
  }

  /** Offset of the tuple of the table's; null: a function leaves the document out. */
  write(writer: DocumentWriter, table: TableVersion, values: ReadDocument): number | null {
    // Of a version from before documents could tell.
    if (values instanceof TooLarge && !isComputed(table)) throw values.cause;
    if (this.#transforming === null && !(values instanceof TooLarge)) return this.#writeStored(writer, values);
    const made = this.made(values);
    if (made.kind === "leftOut") return null;
    if (made.kind === "failed") return this.#writeKey(writer, this.keyOf(values), made.how);
    const at = writer.begin(made.texts.length);
    for (const text of made.texts) writer.cell(text);
    return at;
  }

  #writeStored(writer: DocumentWriter, values: readonly SQLOutputValue[]): number {
    const { columns } = this.#assembly;
    const at = writer.begin(values.length);
    for (const [i, value] of values.entries()) {
      const column = columns[i];
      writer.cell(column === undefined ? textOfRelation(value) : textOf(column, value));
    }
    return at;
  }

  /** Offset of a tuple with the key alone. */
  writeKey(writer: DocumentWriter, key: readonly SQLOutputValue[]): number {
    return this.#writeKey(writer, this.#keyTexts(key), null);
  }

  /** `failed`: what did, in the field that can tell it; null: nothing. */
  #writeKey(writer: DocumentWriter, key: KeyText, failed: string | null): number {
    const { columns, root } = this.#assembly;
    const { made, telling } = this.#columns;
    const at = writer.begin(made.length);
    for (let i = 0; i < made.length; i++) {
      const part = root.layout.key.findIndex(({ source }) => source === columns[i]?.source);
      if (failed !== null && i === telling) writer.failed(failed);
      else writer.cell(part < 0 ? null : key[part]!);
    }
    return at;
  }

  #keyTexts(key: readonly SQLOutputValue[]): KeyText {
    return this.#assembly.root.layout.key.map((part, i) => textOf(part, key[i] ?? null) ?? "");
  }

  /** The key of a row that `range` or `one` has read. */
  keyOf(values: ReadDocument): KeyText {
    if (values instanceof TooLarge) return values.key;
    const { columns, root } = this.#assembly;
    return root.layout.key.map((part) => {
      const i = columns.findIndex(({ source }) => source === part.source);
      return textOf(part, values[i] ?? null) ?? "";
    });
  }
}

export interface ChangedDocument {
  readonly seq: bigint;
  readonly key: readonly SQLOutputValue[];
  /** Null: there is no document with this key. */
  readonly document: ReadDocument | null;
}

/** The values of the root's fields and its relations. */
export type ReadDocument = readonly SQLOutputValue[] | TooLarge;

/** Invariant: a document that does not fit into a text is one dead letter, and holds up no other. */
class TooLarge {
  readonly key: KeyText;
  readonly cause: Error;

  constructor(key: KeyText, cause: Error) {
    this.key = key;
    this.cause = cause;
  }
}

const TOO_LARGE = `the document is larger than ${Math.floor(constants.MAX_STRING_LENGTH / 2 ** 20)} MB: give its relations a \`limit\``;
const SQLITE_TOOBIG = 18;

/** SQLite makes no such value, or the driver no text of it. */
function isTooLarge(error: unknown): error is Error {
  if (!(error instanceof Error && "code" in error)) return false;
  return error.code === "ERR_STRING_TOO_LONG" || ("errcode" in error && error.errcode === SQLITE_TOOBIG);
}

/** A statement. One that has failed says so again when it is run next, whatever it would read then: it is prepared anew. */
class Query {
  readonly #prepare: () => StatementSync;
  #statement: StatementSync;

  constructor(database: DatabaseSync, sql: string) {
    this.#prepare = () => prepareQuery(database, sql);
    this.#statement = this.#prepare();
  }

  *iterate(...bound: readonly SQLInputValue[]): Generator<Record<string, SQLOutputValue>> {
    try {
      yield* this.#statement.iterate(...bound);
    } catch (error) {
      this.#statement = this.#prepare();
      throw error;
    }
  }

  get(...bound: readonly SQLInputValue[]): Record<string, SQLOutputValue> | undefined {
    try {
      return this.#statement.get(...bound);
    } catch (error) {
      this.#statement = this.#prepare();
      throw error;
    }
  }
}

/** Of rows in an order: all of them, and the key of the first. */
interface RowStatements {
  readonly whole: Query;
  readonly key: Query;
}

function textOfRelation(value: SQLOutputValue): string | null {
  if (value === null) return null;
  return value instanceof Uint8Array ? Buffer.from(value).toString() : String(value);
}

/** Writes tuples of texts. */
export class DocumentWriter {
  readonly out = new ByteWriter(64 * 1024);
  readonly #tuples = new TupleWriter(this.out);

  begin(cellCount: number): number {
    return this.#tuples.begin(cellCount);
  }

  cell(text: string | null): void {
    if (text === null) return this.#tuples.null();
    const bytes = Buffer.from(text);
    this.#tuples.text(bytes, 0, bytes.length);
  }

  failed(how: string): void {
    const bytes = Buffer.from(how);
    this.#tuples.failed(bytes, 0, bytes.length);
  }
}
