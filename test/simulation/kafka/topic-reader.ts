/** A reader of the tables' topics: for each key what its records make of it, and what a reader is promised. */
import { partitionOf } from "../../../connectors/kafka/partitions.ts";
import type { Table } from "../database.ts";
import type { WrittenRecord } from "./transactions.ts";

interface Envelope {
  readonly op: "c" | "u" | "d" | "r" | "t" | "s";
  readonly version: string;
  readonly after?: Readonly<Record<string, unknown>> | null;
  readonly source: { readonly table: string; readonly index?: number };
}

interface Shown {
  readonly version: bigint;
  /** Null: it is gone. */
  readonly row: Readonly<Record<string, unknown>> | null;
}

interface ReadTopic {
  readonly partitions: readonly Map<string, Shown>[];
  /** Changes of the log that were shown, by version and index. */
  readonly changes: Set<string>;
}

export class TopicReader {
  readonly #fail: (text: string) => void;
  readonly #partitions: number;
  readonly #topics = new Map<string, ReadTopic>();

  constructor(partitions: number, fail: (text: string) => void) {
    this.#partitions = partitions;
    this.#fail = fail;
  }

  /** Of one transaction of the writer. */
  committed(records: readonly WrittenRecord[]): void {
    const barriers = new Map<string, number>();
    for (const { topic, partition, key, value } of records) {
      if (!topic.startsWith("shop.public.") || key === null || value === null) continue;
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- as docs/envelope.md says
      const envelope = JSON.parse(value.toString()) as Envelope;
      const read = this.#topic(topic);
      const rows = read.partitions[partition]!;
      if (envelope.op === "t" || envelope.op === "s") {
        const id = `${topic} ${envelope.op} ${envelope.version}`;
        barriers.set(id, (barriers.get(id) ?? 0) + 1);
        sweep(rows, envelope);
      } else {
        if (partitionOf(key, key.length, this.#partitions) !== partition)
          this.#fail(`${topic}: ${key.toString()} is in partition ${partition}`);
        this.#change(topic, read, rows, key.toString(), envelope);
      }
    }
    for (const [id, count] of barriers)
      if (count % this.#partitions !== 0) this.#fail(`${id} is in ${count} of ${this.#partitions} partitions`);
  }

  // oxlint-disable-next-line eslint/max-params -- a record and its place
  #change(topic: string, read: ReadTopic, rows: Map<string, Shown>, key: string, envelope: Envelope): void {
    const { op, after = null, source } = envelope;
    const version = BigInt(envelope.version);
    const before = rows.get(key);
    if (op !== "r") {
      const id = `${envelope.version}/${source.index ?? ""}/${op === "d" ? "d" : ""}${key}`;
      if (read.changes.has(id)) this.#fail(`${topic} shows the change ${id} twice`);
      read.changes.add(id);
      if (before !== undefined && before.version > version)
        this.#fail(`${topic}: ${key} goes back from ${before.version} to ${version}`);
    } else if (before !== undefined && before.version > version) return;
    rows.set(key, { version, row: op === "d" ? null : after });
  }

  /** At the end: a reader has the rows that the source has. */
  equal(
    tables: readonly Table[],
    rowsOf: (table: Table) => ReadonlyMap<string, readonly (string | null)[]>,
  ): string | null {
    for (const table of tables) {
      const read = this.#topics.get(`shop.public.${table.name}`);
      const found = new Map<string, string>();
      for (const rows of read?.partitions ?? [])
        for (const { row } of rows.values()) if (row !== null) found.set(String(row["id"]), String(row["n"]));
      const expected = rowsOf(table);
      for (const [key, row] of expected)
        if (found.get(key) !== row[1])
          return `the topic of ${table.name} has ${key} as ${found.get(key) ?? "nothing"} in place of ${row[1]}`;
      for (const key of found.keys()) if (!expected.has(key)) return `the topic of ${table.name} still has ${key}`;
    }
    return null;
  }

  #topic(name: string): ReadTopic {
    let read = this.#topics.get(name);
    if (read === undefined) {
      const partitions = Array.from({ length: this.#partitions }, () => new Map<string, Shown>());
      this.#topics.set(name, (read = { partitions, changes: new Set() }));
    }
    return read;
  }
}

/** Truncate: rows up to its version are gone. Sweep: rows below it were not found. */
function sweep(rows: Map<string, Shown>, { op, version }: Envelope): void {
  const least = BigInt(version) + (op === "t" ? 1n : 0n);
  for (const [key, shown] of rows) if (shown.version < least) rows.set(key, { version: shown.version, row: null });
}
