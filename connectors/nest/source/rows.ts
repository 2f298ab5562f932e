/** Documents as rows, each assembled by SQLite in the snapshot of the statement that reads it. */
import type { DatabaseSync, SQLInputValue, SQLOutputValue, StatementSync } from "node:sqlite";
import { ByteWriter } from "../../../src/core/bytes.ts";
import type { KeyText } from "../../../src/core/contracts/row-reads.ts";
import { TupleWriter } from "../../../src/core/model/tuple.ts";
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
  readonly #changed: StatementSync;
  readonly #range: StatementSync;
  readonly #first: StatementSync;
  readonly #one: StatementSync;
  readonly #listed: StatementSync;

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
    this.#changed = prepareQuery(
      database,
      `SELECT c.seq, ${hasRow}, ${[...keys, ...assembly.values].join(", ")} ` +
        `FROM ${CHANGED} AS c LEFT JOIN ${sqlName} AS ${ROOT} ON ${joined} ` +
        `WHERE c.document = ${planned.id} AND c.seq BETWEEN ? AND ? ORDER BY c.seq`,
    );
    const parts = key.map((column) => `${ROOT}.${column.sqlName}`);
    const given = key.map(({ source }, i) => keyTerm(source, i + 1, true));
    const select = (where: string, rest: string): StatementSync =>
      prepareQuery(
        database,
        `SELECT ${assembly.values.join(", ")} FROM ${sqlName} AS ${ROOT} WHERE ${where} AND ${isThere} ${rest}`,
      );
    const order = `ORDER BY ${parts.join(", ")}`;
    this.#range = select(`(${parts.join(", ")}) > (${given.join(", ")})`, order);
    this.#first = select("true", order);
    this.#one = select(parts.map((part, i) => `${part} = ${given[i]}`).join(" AND "), "");
    const isKey = given.map((term, i) => `k${i + 1} = ${term}`).join(" AND ");
    this.#listed = prepareQuery(database, `SELECT 1 FROM ${CHANGED} WHERE document = ${planned.id} AND ${isKey}`);
  }

  /** Entries of the list from `from` to `to`, in their order. */
  *changed(from: bigint, to: bigint): Generator<ChangedDocument> {
    for (const row of this.#changed.iterate(from, to)) {
      const [seq, isThere, ...values] = Object.values(row);
      const key = values.slice(0, this.#keyCount);
      if (typeof seq === "bigint") yield { seq, key, values: isThere === 1n ? values.slice(this.#keyCount) : null };
    }
  }

  /** In the order of the key, behind `after`; null: from the first one. */
  *range(after: KeyText | null): Generator<readonly SQLOutputValue[]> {
    const rows = after === null ? this.#first.iterate() : this.#range.iterate(...this.#bound(after));
    for (const row of rows) yield Object.values(row);
  }

  one(key: KeyText): readonly SQLOutputValue[] | null {
    const row = this.#one.get(...this.#bound(key));
    return row === undefined ? null : Object.values(row);
  }

  /** Whether it has changed, and is not in all sinks yet. */
  isListed(key: KeyText): boolean {
    return this.#listed.get(...this.#bound(key)) !== undefined;
  }

  #bound(key: KeyText): SQLInputValue[] {
    return this.#assembly.root.layout.key.map(({ source }, i) => keyValue(source, key[i]!, true));
  }

  /** The canonical texts of what `range` or `one` has read, as the sinks get them. */
  made(values: readonly SQLOutputValue[]): Transformed {
    const { columns } = this.#assembly;
    const texts = values.map((value, i) => {
      const column = columns[i];
      return column === undefined ? textOfRelation(value) : textOf(column, value);
    });
    return this.#transforming === null ? { kind: "document", texts } : this.#transforming.apply(texts);
  }

  /** Offset of the tuple; null: a function leaves the document out. */
  write(writer: DocumentWriter, values: readonly SQLOutputValue[]): number | null {
    if (this.#transforming === null) return this.#writeStored(writer, values);
    const made = this.made(values);
    if (made.kind === "leftOut") return null;
    if (made.kind === "failed") return this.#writeFailed(writer, values, made.how);
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

  /** The key, and in the first field besides what failed. */
  #writeFailed(writer: DocumentWriter, values: readonly SQLOutputValue[], how: string): number {
    const { columns } = this.#assembly;
    const { made, key } = this.#columns;
    const failed = made.findIndex((_, i) => !key.includes(i));
    const at = writer.begin(made.length);
    for (let i = 0; i < made.length; i++) {
      if (i === failed) writer.failed(how);
      else writer.cell(key.includes(i) ? textOf(columns[i]!, values[i]!) : null);
    }
    return at;
  }

  /** Offset of a tuple with the key alone. */
  writeKey(writer: DocumentWriter, key: readonly SQLOutputValue[]): number {
    const { columns, root } = this.#assembly;
    const { length } = this.#columns.made;
    const at = writer.begin(length);
    for (let i = 0; i < length; i++) {
      const part = root.layout.key.findIndex(({ source }) => source === columns[i]?.source);
      writer.cell(part < 0 ? null : textOf(root.layout.key[part]!, key[part] ?? null));
    }
    return at;
  }

  /** The key of a row that `range` or `one` has read. */
  keyOf(values: readonly SQLOutputValue[]): KeyText {
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
  readonly values: readonly SQLOutputValue[] | null;
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
