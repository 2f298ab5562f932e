/**
 * `format: millrace`: the envelope of docs/envelope.md as the value, the key's columns as an object as the key. Headers repeat
 * what a consumer sorts and filters by.
 */
import type { ByteWriter } from "../../../src/core/bytes.ts";
import type { TableWrites } from "../../../src/core/model/batch.ts";
import {
  type EnvelopeContext,
  writeDeleteEnvelope,
  writeEnvelope,
  writeKeyObject,
} from "../../../src/core/model/envelope.ts";
import { namesOfTable, type TableVersion } from "../../../src/core/model/schema.ts";
import { changeOffset } from "../../../src/core/targets/history.ts";
import { type Header, header } from "../client/record-batch.ts";
import {
  type Barrier,
  type BarrierRecord,
  type EndedTransaction,
  type EndRecord,
  type Format,
  entryOf,
  expectUtf8,
} from "./format.ts";

const INDEX_HEADERS_MAX = 1024;

export class MillraceFormat implements Format {
  readonly #context: EnvelopeContext;
  readonly #namesTables: boolean;
  readonly #schemas = new WeakMap<TableVersion, Header>();
  readonly #indexes: Header[] = [];
  #version: bigint | null = null;
  #versionHeader: Header = header("millrace-version", "0");

  /** `namesTables`: whether keys name their tables, because tables share a topic. */
  constructor(context: EnvelopeContext, namesTables = false) {
    this.#context = context;
    this.#namesTables = namesTables;
  }

  key(out: ByteWriter, writes: TableWrites, entry: number): void {
    const { block, row, isDelete } = entryOf(writes, entry);
    if (this.#namesTables) out.utf8(`{"table":${JSON.stringify(writes.table.id)},"key":`);
    writeKeyObject(out, writes.table, block.bytes, isDelete ? block.before[row]! : block.after[row]!);
    if (this.#namesTables) out.ascii("}");
  }

  value(out: ByteWriter, writes: TableWrites, entry: number): void {
    const { block, row, isDelete } = entryOf(writes, entry);
    const from = out.length;
    (isDelete ? writeDeleteEnvelope : writeEnvelope)(out, block, row, this.#context);
    expectUtf8(out, from, writes.table);
  }

  headers(writes: TableWrites, entry: number): readonly Header[] {
    const { block, row } = entryOf(writes, entry);
    return [
      this.#ofVersion(block.transactions.version[block.tx[row]!]!),
      this.#ofIndex(changeOffset(block, row)),
      this.#ofSchema(writes.table),
    ];
  }

  barrier(barrier: Barrier): BarrierRecord {
    const { table, version, op, index } = barrierOf(barrier);
    const { name, sourceKind: kind, database, producer } = this.#context;
    const { id: subject, version: schemaVersion, fingerprint, scope } = table;
    const { schema, table: tableName } = namesOfTable(subject);
    const value = {
      op,
      ...(scope === undefined ? {} : { scope }),
      version: String(version),
      schema: { subject, version: schemaVersion, fingerprint },
      source: { name, kind, database, schema, table: tableName, index },
      producer,
    };
    return {
      key: barrierKey(op, subject),
      value: Buffer.from(JSON.stringify(value)),
      headers: [this.#ofVersion(version), this.#ofIndex(index), this.#ofSchema(table)],
      isEverywhere: true,
    };
  }

  end({ version, counts }: EndedTransaction): EndRecord {
    const tables = [...counts].map(([table, changes]) => ({ table, changes }));
    const total = tables.reduce((sum, { changes }) => sum + changes, 0);
    return {
      key: Buffer.from(JSON.stringify({ version: String(version) })),
      value: Buffer.from(JSON.stringify({ version: String(version), changes: total, tables })),
    };
  }

  schema({ id, version, fingerprint, columns, key, schema, table, dialect, since, ruled }: TableVersion): EndRecord {
    const listed = columns.map(({ name, type, native, nullable }) => ({ name, type, native, nullable }));
    const names = key.map((ordinal) => columns[ordinal]!.name);
    const isRuled = ruled !== undefined;
    const from = { epoch: since.epoch, position: this.#context.formatPosition(since.commit) };
    const value = { subject: id, version, fingerprint, schema, table, dialect, key: names, isRuled, since: from };
    return {
      key: Buffer.from(JSON.stringify({ subject: id, version, fingerprint })),
      value: Buffer.from(JSON.stringify({ ...value, columns: listed })),
    };
  }

  #ofVersion(version: bigint): Header {
    if (version !== this.#version) {
      this.#version = version;
      this.#versionHeader = header("millrace-version", String(version));
    }
    return this.#versionHeader;
  }

  #ofIndex(index: number): Header {
    if (index >= INDEX_HEADERS_MAX) return header("millrace-index", String(index));
    return (this.#indexes[index] ??= header("millrace-index", String(index)));
  }

  #ofSchema(table: TableVersion): Header {
    let known = this.#schemas.get(table);
    if (known === undefined) {
      known = header("millrace-schema", `${table.version}/${table.fingerprint}`);
      this.#schemas.set(table, known);
    }
    return known;
  }
}

interface BarrierParts {
  readonly table: TableVersion;
  readonly version: bigint;
  /** `t`: rows up to this version are gone. `s`: rows below it were not found. */
  readonly op: "t" | "s";
  readonly index: number;
}

/**
 * Where a topic is compacted, each table's last truncate and last sweep stay in every partition. A key of a row is an object, so
 * none is like it.
 */
function barrierKey(op: BarrierParts["op"], tableId: string): Buffer {
  return Buffer.from(JSON.stringify([op, tableId]));
}

function barrierOf(barrier: Barrier): BarrierParts {
  if (barrier.kind === "sweep") return { table: barrier.table, version: barrier.below, op: "s", index: 0 };
  const { table, version, record } = barrier.batch;
  return { table, version, op: "t", index: record?.index ?? 0 };
}
