/**
 * A reader of the tables' topics: for each key what its records make of it, and what a reader is promised. Of a compacted topic
 * a reader who comes at the end gets the newest record of each key alone.
 */
import { partitionOf } from "../../../connectors/kafka/writer/records.ts";
import type { Table } from "../database.ts";
import { SINGLE } from "./log-checks.ts";
import type { WrittenRecord } from "./transactions.ts";

/** What a reader who has no record before has in place of a value that stayed. */
const LOST = "lost";

interface Envelope {
  readonly op: "c" | "u" | "d" | "r" | "t" | "s";
  readonly version: string;
  readonly after?: Readonly<Record<string, unknown>> | null;
  readonly unchanged?: readonly string[];
  readonly source: { readonly table: string; readonly index?: number };
}

interface Shown {
  readonly version: bigint;
  /** Null: it is gone. */
  readonly row: Readonly<Record<string, unknown>> | null;
}

/** Of one partition, by key. */
type Rows = Map<string, Shown>;

interface ReadTable {
  readonly partitions: readonly Rows[];
  /** Changes of the log that were shown, by version and index. */
  readonly changes: Set<string>;
}

export class TopicReader {
  readonly #fail: (text: string) => void;
  readonly #partitions: number;
  readonly #tables = new Map<string, ReadTable>();
  /** By topic, partition and key the newest record, in the order of the partition. */
  readonly #newest = new Map<string, readonly Map<string, Envelope>[]>();

  constructor(partitions: number, fail: (text: string) => void) {
    this.#partitions = partitions;
    this.#fail = fail;
  }

  /** Of one transaction of the writer. */
  committed(records: readonly WrittenRecord[]): void {
    const barriers = new Map<string, number>();
    for (const { topic, partition, key, value } of records) {
      if (!isOfRows(topic) || key === null) continue;
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- as docs/envelope.md says
      const envelope = value === null ? null : (JSON.parse(value.toString()) as Envelope);
      const newest = entryOf(this.#newest, topic, () => this.#perPartition<Envelope>())[partition]!;
      newest.delete(key.toString());
      if (envelope !== null) newest.set(key.toString(), envelope);
      if (envelope === null) continue;
      const { table } = envelope.source;
      const made = (): ReadTable => ({ partitions: this.#perPartition<Shown>(), changes: new Set() });
      const read = entryOf(this.#tables, table, made);
      const rows = read.partitions[partition]!;
      if (isBarrier(envelope)) {
        const id = `of ${table}: ${envelope.op} ${envelope.version}`;
        barriers.set(id, (barriers.get(id) ?? 0) + 1);
        sweep(rows, envelope);
      } else {
        if (partitionOf(key, key.length, this.#partitions) !== partition)
          this.#fail(`${topic}: ${key.toString()} is in partition ${partition}`);
        this.#change(read, rows, key.toString(), envelope);
      }
    }
    for (const [id, count] of barriers)
      if (count % this.#partitions !== 0) this.#fail(`${id} is in ${count} of ${this.#partitions} partitions`);
  }

  #change({ changes }: ReadTable, rows: Rows, key: string, envelope: Envelope): void {
    const { op, source } = envelope;
    const { table } = source;
    const version = BigInt(envelope.version);
    const before = rows.get(key);
    if (op !== "r") {
      const id = `${envelope.version}/${source.index ?? ""}/${op === "d" ? "d" : ""}${key}`;
      if (changes.has(id)) this.#fail(`a topic shows the change ${id} of ${table} twice`);
      changes.add(id);
      if (before !== undefined && before.version > version)
        this.#fail(`a topic of ${table}: ${key} goes back from ${before.version} to ${version}`);
    }
    take(rows, key, envelope);
  }

  #perPartition<T>(): readonly Map<string, T>[] {
    return Array.from({ length: this.#partitions }, () => new Map<string, T>());
  }

  /** At the end: a reader has the rows that the source has. `isCompacted`: so has one that begins now. */
  equal(
    tables: readonly Table[],
    rowsOf: (table: Table) => ReadonlyMap<string, readonly (string | null)[]>,
    isCompacted: boolean,
  ): string | null {
    const late = isCompacted ? this.#readLate() : null;
    for (const table of tables) {
      const expected = rowsOf(table);
      const names = table.shape.columns.map(({ name }) => name);
      const all = this.#tables.get(table.name)?.partitions ?? [];
      const unlike = difference(names, expected, all);
      if (unlike !== null) return `the topic of ${table.name} ${unlike}`;
      const kept = late === null ? null : difference(names, expected, late.get(table.name) ?? []);
      if (kept !== null) return `the compacted topic of ${table.name} ${kept}`;
    }
    return null;
  }

  /** By table and partition, of the newest records alone. */
  #readLate(): ReadonlyMap<string, readonly Rows[]> {
    const read = new Map<string, readonly Rows[]>();
    for (const partitions of this.#newest.values()) {
      for (const [partition, records] of partitions.entries()) {
        for (const [key, envelope] of records) {
          const rows = entryOf(read, envelope.source.table, () => this.#perPartition<Shown>())[partition]!;
          if (isBarrier(envelope)) sweep(rows, envelope);
          else take(rows, key, envelope);
        }
      }
    }
    return read;
  }
}

/** Whether the topic has rows of tables. */
function isOfRows(topic: string): boolean {
  return topic === SINGLE || topic.startsWith("shop.public.");
}

function isBarrier({ op }: Envelope): boolean {
  return op === "t" || op === "s";
}

function entryOf<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) map.set(key, (value = make()));
  return value;
}

/** A row that was read gives way to a newer change. What a change left as it was comes from the record before. */
function take(rows: Rows, key: string, { op, version: text, after = null, unchanged = [] }: Envelope): void {
  const version = BigInt(text);
  const before = rows.get(key);
  if (op === "r" && before !== undefined && before.version > version) return;
  const stayed = unchanged.map((name): [string, unknown] => [name, before?.row == null ? LOST : before.row[name]]);
  rows.set(key, { version, row: op === "d" ? null : { ...after, ...Object.fromEntries(stayed) } });
}

function difference(
  names: readonly string[],
  expected: ReadonlyMap<string, readonly (string | null)[]>,
  partitions: readonly Rows[],
): string | null {
  const found = new Map<string, string>();
  for (const rows of partitions) {
    for (const { row } of rows.values()) {
      // A column that came later is not in earlier records.
      if (row !== null) found.set(String(row["id"]), names.map((name) => JSON.stringify(row[name] ?? null)).join());
    }
  }
  for (const [key, row] of expected) {
    // The first two cells are numbers there.
    const wanted = row.map((cell, i) => (i < 2 ? String(cell) : JSON.stringify(cell))).join();
    if (found.get(key) !== wanted) return `has ${key} as ${found.get(key) ?? "nothing"} in place of ${wanted}`;
  }
  for (const key of found.keys()) if (!expected.has(key)) return `still has ${key}`;
  return null;
}

/** Truncate: rows up to its version are gone. Sweep: rows below it were not found. */
function sweep(rows: Rows, { op, version }: Envelope): void {
  const least = BigInt(version) + (op === "t" ? 1n : 0n);
  for (const [key, shown] of rows) if (shown.version < least) rows.set(key, { version: shown.version, row: null });
}
