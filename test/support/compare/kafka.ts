/**
 * Rows as the topics of a Kafka sink have them, by connectors/kafka/README.md and docs/envelope.md: of each key the newest
 * committed record of its partition counts, `t` and `s` take rows away, and what a record leaves unchanged is that of the
 * record before, of the former key where the key changed.
 */
import { type ReadRecord, TopicReader } from "../kafka/kafka-topics.ts";
import { fieldsOf, itemsOf, type Json, plainOf, readJson, spelledJson } from "../model/json-text.ts";
import { documentLanding } from "./elasticsearch.ts";
import type { SinkReader, SinkRow } from "./reader.ts";
import { displayName, type SourceTable } from "./source-table.ts";

export interface KafkaSinkAddress {
  readonly kind: "kafka";
  readonly broker: string;
  /** What the names of this sink's topics begin with, and of no other. */
  readonly prefix: string;
}

/** A cell that is that of the row that went under another key, by that change. */
class MovedCell {
  readonly change: string;
  readonly column: string;

  constructor(change: string, column: string) {
    this.change = change;
    this.column = column;
  }
}

type Row = ReadonlyMap<string, Json | MovedCell>;

interface Kept {
  readonly key: ReadonlyMap<string, Json>;
  readonly version: bigint;
  readonly row: Row;
  readonly flaws: readonly string[];
}

/** Millrace's own topics: checkpoint, schemas, transactions. */
const OWN = /\._(checkpoint|schemas|transactions)/;
const MOVES_MAX = 1_000;

export async function kafkaReader({ broker, prefix }: KafkaSinkAddress): Promise<SinkReader> {
  const reader = new TopicReader(broker);
  const tables = new Tables();
  try {
    for (const topic of await reader.names(prefix)) {
      if (OWN.test(topic)) continue;
      for (const record of await reader.read(topic)) tables.add(record);
    }
  } finally {
    await reader[Symbol.asyncDispose]();
  }
  return {
    mayRepeat: false,
    expected: (column, text) => documentLanding(column, text),
    idOf: (_key, landed) => landed.join(":"),
    rows: (table) => tables.rows(table),
    async [Symbol.asyncDispose]() {},
  };
}

/** What a reader of all topics knows of the tables: records are added partition by partition. */
class Tables {
  /** By table and partition, then by the text of the key. */
  readonly #kept = new Map<string, Map<string, Map<string, Kept>>>();
  /** Rows as they were when they went under another key, by the change. */
  readonly #moved = new Map<string, Row>();
  /** The last record of each partition: a tombstone follows its delete. */
  readonly #last = new Map<string, { readonly key: string | null; readonly op: string }>();

  add(record: ReadRecord): void {
    const { partition, topic, key, value } = record;
    const place = `${topic} ${partition}`;
    if (value === null) {
      const last = this.#last.get(place);
      if (last?.op !== "d" || last.key !== key) throw new Error(`${place}: a tombstone follows no delete`);
      this.#last.set(place, { key, op: "" });
      return;
    }
    const envelope = fieldsOf(readJson(value));
    const op = plainOf(envelope.get("op"));
    this.#last.set(place, { key, op });
    const subject = plainOf(fieldsOf(envelope.get("schema")).get("subject"));
    const kept = this.#of(subject, partition);
    const version = BigInt(plainOf(envelope.get("version")));
    if (op === "t" || op === "s") {
      // Up to the version of a truncate, below that of a sweep.
      const limit = op === "t" ? version : version - 1n;
      for (const [id, row] of kept) if (row.version <= limit) kept.delete(id);
      return;
    }
    const index = plainOf(fieldsOf(envelope.get("source")).get("index"));
    const change = (of: ReadonlyMap<string, Json>) => `${subject} ${spelledJson(of)} ${version} ${index}`;
    const fields = keyIn(key);
    const id = spelledJson(fields);
    const before = kept.get(id);
    if (op === "d") {
      if (before !== undefined) this.#moved.set(change(fields), before.row);
      kept.delete(id);
      return;
    }
    const row = new Map<string, Json | MovedCell>(fieldsOf(envelope.get("after")));
    const former = formerKey(fields, envelope.get("before"));
    const flaws = [...headerFlaws(record, version, op === "r" ? null : index)];
    for (const name of itemsOf(envelope.get("unchanged")).map(plainOf)) {
      const cell = former === null ? before?.row.get(name) : new MovedCell(change(former), name);
      if (cell === undefined) flaws.push(`unchanged ${name}`);
      else row.set(name, cell);
    }
    kept.set(id, { key: fields, version, row, flaws });
  }

  async *rows(table: SourceTable): AsyncGenerator<SinkRow[]> {
    const partitions = this.#kept.get(displayName(table)) ?? new Map<string, Map<string, Kept>>();
    const known = new Set(table.columns.map(({ name }) => name));
    for (const kept of partitions.values()) {
      yield [...kept.values()].map(({ key, row, flaws }) => {
        const lost: string[] = [];
        const cells = table.columns.map(({ name }) => {
          const cell = this.#resolved(row.get(name));
          if (cell === undefined) lost.push(`lost ${name}`);
          return cell == null ? null : spelledJson(cell);
        });
        const surplus = [...row.keys()].filter((name) => !known.has(name));
        const id = table.key.map((ordinal) => spelledJson(key.get(table.columns[ordinal]!.name) ?? null)).join(":");
        return { id, cells, flaws: [...flaws, ...lost, ...surplus] };
      });
    }
  }

  #of(subject: string, partition: number): Map<string, Kept> {
    const partitions = this.#kept.get(subject) ?? new Map<string, Map<string, Kept>>();
    this.#kept.set(subject, partitions);
    const kept = partitions.get(String(partition)) ?? new Map<string, Kept>();
    partitions.set(String(partition), kept);
    return kept;
  }

  /** Undefined: no record has the value. */
  #resolved(cell: Json | MovedCell | undefined): Json | undefined {
    let found = cell;
    for (let moves = 0; found instanceof MovedCell && moves < MOVES_MAX; moves++) {
      found = this.#moved.get(found.change)?.get(found.column);
    }
    return found instanceof MovedCell ? undefined : found;
  }
}

/** Tables that share a topic have keys that name them. */
function keyIn(text: string | null): ReadonlyMap<string, Json> {
  const fields = fieldsOf(readJson(text ?? "null"));
  return fields.has("table") && fields.get("key") instanceof Map ? fieldsOf(fields.get("key")) : fields;
}

/** The key before the change; null: it is the same. */
function formerKey(key: ReadonlyMap<string, Json>, before: Json | undefined): ReadonlyMap<string, Json> | null {
  if (!(before instanceof Map)) return null;
  const fields = fieldsOf(before);
  const former = new Map([...key.keys()].map((name) => [name, fields.get(name) ?? null]));
  return spelledJson(former) === spelledJson(key) ? null : former;
}

/** `index`: null for rows that were read, which have one of their own. */
function headerFlaws({ headers }: ReadRecord, version: bigint, index: string | null): readonly string[] {
  const flaws: string[] = [];
  if (headers.get("millrace-version") !== String(version)) flaws.push("millrace-version");
  if (headers.get("millrace-index") !== (index ?? "4294967296")) flaws.push("millrace-index");
  if (!/^\d+\/[0-9a-f]{64}$/.test(headers.get("millrace-schema") ?? "")) flaws.push("millrace-schema");
  return flaws;
}
