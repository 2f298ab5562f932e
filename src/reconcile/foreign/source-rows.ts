/** A source as a database that is only read: what the log lacks of a table is nothing to a comparison. */
import type { TableShape } from "../../core/contracts/catalog.ts";
import type { Readable, ReadableTable, ReadableTables, TextRow, Within } from "../../core/contracts/readable.ts";
import { type Chunk, KeyPace, type KeyText } from "../../core/contracts/row-reads.ts";
import type { ReadSource } from "../../core/contracts/source.ts";
import type { Block } from "../../core/model/block.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { CELL_FAILED, CELL_NULL, CellMap } from "../../core/model/tuple.ts";
import { readText } from "../../core/values/text.ts";

/** Rows that join rows of another table, and perhaps others: see `RowReads`. */
type Joined = (
  table: ReadableTable,
  columns: readonly number[],
  by: readonly number[],
  above: { readonly table: ReadableTable; readonly of: readonly number[]; readonly keys: readonly KeyText[] },
  signal: AbortSignal,
) => Promise<readonly TextRow[]>;

/** No window waits for these reads. */
const SCANNED_MAX = 1_000_000;

export class SourceRows implements Readable {
  readonly #source: ReadSource;
  readonly #shapes = new Map<string, TableShape>();
  readonly #cells = new CellMap();
  readonly #paces = new Map<string, KeyPace>();
  readonly sums: Readable["sums"];

  constructor(source: ReadSource) {
    this.#source = source;
    const { sums } = source.rows;
    this.sums = sums && {
      forms: (table, columns) => sums.forms(this.#versionOf(table), columns),
      of: async (table, hashed, signal) => await sums.of(this.#versionOf(table), hashed, signal),
    };
  }

  async tables(signal: AbortSignal): Promise<ReadableTables & { readonly tables: readonly TableShape[] }> {
    const { tables, refused, besides } = await this.#source.catalog.tables(signal);
    const all = [...tables, ...refused.flatMap(({ readable }) => readable ?? [])];
    for (const shape of all) this.#shapes.set(shape.id, shape);
    return {
      tables: all,
      refused: refused.filter(({ readable }) => readable === undefined),
      ...(besides === undefined ? {} : { besides }),
    };
  }

  async *rows(
    table: ReadableTable,
    columns: readonly number[],
    signal: AbortSignal,
    within?: Within,
  ): AsyncGenerator<readonly TextRow[]> {
    const version = this.#versionOf(table);
    const scan =
      within === undefined
        ? { where: null }
        : {
            where: this.#source.rows.sums!.within(version, { columns, form: within.form }, within.buckets),
            scanRowCountMax: SCANNED_MAX,
          };
    let after: KeyText | null = null;
    do {
      const { block, last } = await this.#source.rows.readRange(version, { after, ...scan }, signal);
      if (block !== null) yield this.#texts(version, columns, block);
      after = last;
    } while (after !== null);
  }

  async rowsAt(
    table: ReadableTable,
    columns: readonly number[],
    keys: readonly KeyText[],
    signal: AbortSignal,
  ): Promise<readonly TextRow[]> {
    const version = this.#versionOf(table);
    return await this.#paced(version, columns, keys, (some) => this.#source.rows.readKeys(version, some, signal));
  }

  /** Null: the source can't look rows up by other columns than the key's. */
  get joined(): Joined | null {
    const { readJoined } = this.#source.rows;
    if (readJoined === undefined) return null;
    return async (table, columns, by, { table: above, of, keys }, signal) => {
      const [version, upper] = [this.#versionOf(table), this.#versionOf(above)];
      return await this.#paced(version, columns, keys, (some) =>
        readJoined(version, by, { table: upper, of, keys: some }, signal),
      );
    };
  }

  /** Few at first: the rows may be large. */
  async #paced(
    table: TableVersion,
    columns: readonly number[],
    keys: readonly KeyText[],
    read: (keys: readonly KeyText[]) => Promise<Pick<Chunk, "block">>,
  ): Promise<readonly TextRow[]> {
    const pace = this.#paces.get(table.id) ?? new KeyPace();
    this.#paces.set(table.id, pace);
    const found: TextRow[] = [];
    for (let i = 0; i < keys.length;) {
      const some = keys.slice(i, i + pace.count);
      i += some.length;
      const { block } = await read(some);
      pace.looked(some.length, block?.byteCount ?? 0);
      if (block !== null) for (const row of this.#texts(table, columns, block)) found.push(row);
    }
    return found;
  }

  async close(): Promise<void> {
    await this.#source.close();
  }

  #versionOf({ id, key }: ReadableTable): TableVersion {
    return { ...this.#shapes.get(id)!, key, version: 0, since: { epoch: 1, commit: 0n, index: 0 } };
  }

  /** Gives the block back. */
  #texts(table: TableVersion, columns: readonly number[], block: Block): readonly TextRow[] {
    const { after, bytes, count } = block;
    const cells = this.#cells;
    const rows = Array.from({ length: count }, (_, row) => {
      cells.read(bytes, after[row]!);
      return columns.map((ordinal) => {
        const kind = cells.kind[ordinal]!;
        // A function failed: there is no value.
        if (kind === CELL_NULL || kind === CELL_FAILED) return null;
        return readText(table.columns[ordinal]!.type, kind, bytes, cells.start[ordinal]!, cells.length[ordinal]!);
      });
    });
    block.release();
    return rows;
  }
}
