/** Targets of other tools that are read by SQL: a dialect says how its types are spelled. */
import type { Readable, ReadableTable, ReadableTables, TextRow } from "../../src/core/contracts/readable.ts";
import type { KeyText } from "../../src/core/contracts/row-reads.ts";
import { type Column, tableId } from "../../src/core/model/schema.ts";
import type { ColumnType } from "../../src/core/model/types.ts";
import { literalLists } from "./literal-lists.ts";

interface SqlDialect {
  /** Of all tables that may be meant: schema, table, whatever `from` needs, column, type; columns in their order. */
  readonly catalogue: string;
  readonly typeOf: (native: string) => SqlType;
  readonly from: (schema: string, table: string, kind: string) => string;
  readonly quote: (name: string) => string;
  /** Of a statement that reads. All values come as text. */
  readonly rows: (sql: string, signal: AbortSignal) => AsyncIterable<readonly TextRow[]>;
  readonly close: () => Promise<void>;
}

export interface SqlType {
  readonly type: ColumnType;
  /** A column's value in the canonical text form. */
  readonly text: (column: string) => string;
  /** Of this type, from the text of either side. */
  readonly literal: (text: string) => string;
}

export class ReadableSql implements Readable {
  readonly #dialect: SqlDialect;
  readonly #from = new Map<string, string>();

  constructor(dialect: SqlDialect) {
    this.#dialect = dialect;
  }

  async tables(signal: AbortSignal): Promise<ReadableTables> {
    const columns = new Map<string, Column[]>();
    const tables: ReadableTable[] = [];
    for await (const part of this.#dialect.rows(this.#dialect.catalogue, signal)) {
      for (const row of part) {
        const [schema = "", table = "", kind = "", name = "", native = ""] = row.map((text) => text ?? "");
        const id = tableId(schema, table);
        let of = columns.get(id);
        if (of === undefined) {
          columns.set(id, (of = []));
          tables.push({ id, schema, table, columns: of, key: [] });
          this.#from.set(id, this.#dialect.from(schema, table, kind));
        }
        of.push({ name, native, type: this.#dialect.typeOf(native).type, nullable: true, identity: of.length });
      }
    }
    return { tables, refused: [] };
  }

  async *rows(
    table: ReadableTable,
    columns: readonly number[],
    signal: AbortSignal,
  ): AsyncGenerator<readonly TextRow[]> {
    yield* this.#dialect.rows(this.#select(table, columns), signal);
  }

  async rowsAt(
    table: ReadableTable,
    columns: readonly number[],
    keys: readonly KeyText[],
    signal: AbortSignal,
  ): Promise<readonly TextRow[]> {
    const { quote, typeOf } = this.#dialect;
    const key = table.key.map((ordinal) => table.columns[ordinal]!);
    const tuple = (parts: readonly string[]): string => (parts.length === 1 ? parts[0]! : `(${parts.join(", ")})`);
    const found: TextRow[] = [];
    const literals = keys.map((one) => tuple(one.map((text, part) => typeOf(key[part]!.native).literal(text))));
    for (const wanted of literalLists(literals)) {
      const where = `${tuple(key.map(({ name }) => quote(name)))} IN (${wanted.join(", ")})`;
      for await (const part of this.#dialect.rows(`${this.#select(table, columns)} WHERE ${where}`, signal))
        found.push(...part);
    }
    return found;
  }

  async close(): Promise<void> {
    await this.#dialect.close();
  }

  #select({ id, columns: all }: ReadableTable, columns: readonly number[]): string {
    const { quote, typeOf } = this.#dialect;
    const texts = columns.map((ordinal) => {
      const { name, native } = all[ordinal]!;
      return typeOf(native).text(quote(name));
    });
    return `SELECT ${texts.join(", ")} FROM ${this.#from.get(id)!}`;
  }
}
