/** `format: debezium`, `debezium-flat` and `cloudevents`: what Debezium's connectors write, in three forms. */
import { ByteWriter } from "../../../../src/core/bytes.ts";
import type { TableWrites } from "../../../../src/core/model/batch.ts";
import { NO_TUPLE } from "../../../../src/core/model/block.ts";
import type { EnvelopeContext } from "../../../../src/core/model/envelope.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import type { Header } from "../../client/record-batch.ts";
import type { TopicNaming } from "../../names.ts";
import {
  type Barrier,
  type BarrierRecord,
  type Begun,
  type EndedTransaction,
  type EndRecord,
  type NamedTransaction,
  type RecordContext,
  entryOf,
  expectUtf8,
} from "../format.ts";
import { parseConnectSchema, type RecordSchemas } from "../registered/schemas.ts";
import type { DescribedFormat } from "../registered/registered-format.ts";
import { type Change, newChange, setChange } from "./change.ts";
import type { Decimals } from "./fields.ts";
import { type DebeziumForm, type ValueWriter, writerOf } from "./forms.ts";
import { type Layout, layoutOf, PerTable, writeKey } from "./layout.ts";
import { positionOf, SourceBlock } from "./source.ts";
import { beginRecord, endRecord, TRANSACTION_SCHEMAS } from "./transactions.ts";

export interface DebeziumOptions {
  readonly form: DebeziumForm;
  readonly naming: TopicNaming;
  readonly schemas: boolean;
  readonly decimals: Decimals;
}

export class DebeziumFormat implements DescribedFormat {
  readonly #layouts: PerTable<TableVersion, Layout>;
  readonly #source: SourceBlock;
  readonly #values: ValueWriter;
  /** What keys and values begin with, as Connect's JsonConverter writes it; null: they have no schemas. */
  readonly #schemas: PerTable<Layout, { readonly key: Buffer; readonly value: Buffer }> | null;
  #change: Change | null = null;

  constructor(context: EnvelopeContext, { form, naming, schemas, decimals }: DebeziumOptions) {
    this.#layouts = new PerTable((table) => layoutOf(table, naming, decimals));
    this.#source = new SourceBlock(context, `${naming.prefix}${naming.daemon}`);
    const values = (this.#values = writerOf(form, this.#source, context.name));
    const schemasOf = (layout: Layout) => ({
      key: schemaPrefix(keySchemaOf(layout)),
      value: schemaPrefix(values.schema(layout)),
    });
    this.#schemas = schemas ? new PerTable(schemasOf) : null;
  }

  schemasOf(table: TableVersion): RecordSchemas {
    const layout = this.#layouts.of(table);
    return {
      key: parseConnectSchema(keySchemaOf(layout)),
      value: parseConnectSchema(this.#values.schema(layout)),
    };
  }

  get transactionSchemas(): RecordSchemas {
    return TRANSACTION_SCHEMAS;
  }

  key(out: ByteWriter, writes: TableWrites, entry: number): void {
    const { block, row, isDelete } = entryOf(writes, entry);
    const layout = this.#layouts.of(writes.table);
    const schema = this.#schemas?.of(layout).key;
    if (schema !== undefined) out.copy(schema, 0, schema.length);
    writeKey(out, layout, block.bytes, isDelete ? block.before[row]! : block.after[row]!);
    if (schema !== undefined) out.ascii("}");
  }

  value(out: ByteWriter, writes: TableWrites, entry: number, context: RecordContext): void {
    const { block, row, isDelete } = entryOf(writes, entry);
    const change = this.#changeOf(this.#layouts.of(writes.table), context);
    setChange(change, block, row, isDelete, context);
    const from = out.length;
    this.#write(out, change);
    expectUtf8(out, from, writes.table);
  }

  headers(): readonly Header[] {
    return this.#values.headers;
  }

  /** Debezium knows no sweep. A truncate is one record, without a key. */
  barrier(barrier: Barrier, context: RecordContext): BarrierRecord | null {
    if (barrier.kind === "sweep" || !this.#values.hasTruncate) return null;
    const { table, version, record } = barrier.batch;
    const change = this.#changeOf(this.#layouts.of(table), context);
    change.op = "t";
    change.before = change.after = NO_TUPLE;
    Object.assign(change.origin, {
      timeUs: record?.commitTimeUs ?? BigInt(context.nowMs) * 1000n,
      snapshot: "false",
      version,
      position: positionOf(version),
      xid: record?.xid ?? 0,
      gtid: record?.origin?.gtid ?? null,
      serverId: record?.origin?.serverId ?? 0,
      index: record?.index ?? 0,
    });
    const out = new ByteWriter();
    this.#write(out, change);
    return { key: null, value: out.view(), headers: this.#values.headers, isEverywhere: false };
  }

  transactionId({ version, xid, origin }: NamedTransaction): string {
    return this.#source.transactionId({ xid, position: positionOf(version), gtid: origin?.gtid ?? null });
  }

  begin(transaction: Begun): EndRecord {
    return beginRecord(transaction, this.#schemas !== null);
  }

  end(transaction: EndedTransaction): EndRecord {
    return endRecord(transaction, this.#schemas !== null);
  }

  #write(out: ByteWriter, change: Change): void {
    this.#values.write(out, change, this.#schemas?.of(change.layout).value ?? null);
  }

  #changeOf(layout: Layout, context: RecordContext): Change {
    this.#change ??= newChange(layout, context);
    this.#change.layout = layout;
    this.#change.context = context;
    return this.#change;
  }
}

function keySchemaOf({ keySchema, schemaName }: Layout): string {
  return `{${keySchema},"optional":false,"name":${JSON.stringify(`${schemaName}.Key`)}}`;
}

function schemaPrefix(schema: string): Buffer {
  return Buffer.from(`{"schema":${schema},"payload":`);
}
