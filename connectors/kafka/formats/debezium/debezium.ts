/** `format: debezium`, `debezium-flat` and `cloudevents`: what Debezium's connectors write, in three forms. */
import { ByteWriter } from "../../../../src/core/bytes.ts";
import type { TableWrites } from "../../../../src/core/model/batch.ts";
import { NO_TUPLE } from "../../../../src/core/model/block.ts";
import type { EnvelopeContext } from "../../../../src/core/model/envelope.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import type { Header } from "../../client/record-batch.ts";
import type { TopicNaming } from "../../names.ts";
import type { Barrier, BarrierRecord, Begun, EndedTransaction, EndRecord, NamedTransaction, Place } from "../format.ts";
import { placeOf } from "../place.ts";
import { parseConnectSchema, type RecordSchemas } from "../registered/connect-schema.ts";
import type { DescribedFormat } from "../registered/registered-format.ts";
import { type Change, newChange, setChange } from "./change.ts";
import { CloudEventWriter } from "./cloud-events.ts";
import { EnvelopeWriter } from "./envelope.ts";
import type { Decimals } from "./types/field.ts";
import { FlatWriter } from "./flat.ts";
import { type Layout, Layouts, writeKey } from "./layout.ts";
import { positionOf, SourceBlock } from "./source.ts";
import { beginRecord, endRecord, TRANSACTION_SCHEMAS } from "./transactions.ts";
import { PerTable, schemaPrefix, type ValueWriter } from "./writers.ts";

export type DebeziumForm = "debezium" | "debezium-flat" | "cloudevents";

export interface DebeziumOptions {
  readonly form: DebeziumForm;
  readonly naming: TopicNaming;
  readonly schemas: boolean;
  readonly decimals: Decimals;
}

export class DebeziumFormat implements DescribedFormat {
  readonly #layouts: Layouts;
  readonly #source: SourceBlock;
  readonly #values: ValueWriter;
  readonly #keys: PerTable<Buffer> | null;
  readonly #hasSchemas: boolean;
  #change: Change | null = null;

  constructor(context: EnvelopeContext, { form, naming, schemas, decimals }: DebeziumOptions) {
    this.#layouts = new Layouts({ naming, decimals });
    this.#source = new SourceBlock(context, `${naming.prefix}${naming.daemon}`);
    this.#values = writerOf(form, this.#source, context, schemas);
    this.#hasSchemas = schemas;
    this.#keys = schemas ? new PerTable((layout) => schemaPrefix(keySchemaOf(layout))) : null;
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
    const { block, row, isDelete } = placeOf(writes, entry);
    const layout = this.#layouts.of(writes.table);
    const schema = this.#keys?.of(layout);
    if (schema !== undefined) out.copy(schema, 0, schema.length);
    writeKey(out, layout, block.bytes, isDelete ? block.before[row]! : block.after[row]!);
    if (schema !== undefined) out.ascii("}");
  }

  value(out: ByteWriter, writes: TableWrites, entry: number, place: Place): void {
    const { block, row, isDelete } = placeOf(writes, entry);
    const change = this.#changeOf(this.#layouts.of(writes.table), place);
    setChange(change, block, row, isDelete, place);
    this.#values.write(out, change);
  }

  headers(): readonly Header[] {
    return this.#values.headers;
  }

  /** Debezium knows no sweep. A truncate is one record, without a key. */
  barrier(barrier: Barrier, place: Place): BarrierRecord | null {
    if (barrier.kind === "sweep" || !this.#values.hasTruncate) return null;
    const { table, version, record } = barrier.batch;
    const change = this.#changeOf(this.#layouts.of(table), place);
    change.op = "t";
    change.before = change.after = NO_TUPLE;
    Object.assign(change.origin, {
      timeUs: record?.commitTimeUs ?? BigInt(place.nowMs) * 1000n,
      snapshot: "false",
      version,
      position: positionOf(version),
      xid: record?.xid ?? 0,
      gtid: record?.origin?.gtid ?? null,
      serverId: record?.origin?.serverId ?? 0,
      index: record?.index ?? 0,
    });
    const out = new ByteWriter();
    this.#values.write(out, change);
    return { key: null, value: out.view(), headers: this.#values.headers, isEverywhere: false };
  }

  transactionId({ version, xid, origin }: NamedTransaction): string {
    return this.#source.transactionId({ xid, position: positionOf(version), gtid: origin?.gtid ?? null });
  }

  begin(transaction: Begun): EndRecord {
    return beginRecord(transaction, this.#hasSchemas);
  }

  end(transaction: EndedTransaction): EndRecord {
    return endRecord(transaction, this.#hasSchemas);
  }

  #changeOf(layout: Layout, place: Place): Change {
    this.#change ??= newChange(layout, place);
    this.#change.layout = layout;
    this.#change.place = place;
    return this.#change;
  }
}

function keySchemaOf({ keySchema, schemaName }: Layout): string {
  return `{${keySchema},"optional":false,"name":${JSON.stringify(`${schemaName}.Key`)}}`;
}

function writerOf(form: DebeziumForm, source: SourceBlock, context: EnvelopeContext, hasSchemas: boolean): ValueWriter {
  switch (form) {
    case "debezium":
      return new EnvelopeWriter(source, hasSchemas);
    case "debezium-flat":
      return new FlatWriter(source, hasSchemas);
    case "cloudevents":
      return new CloudEventWriter(source, context, hasSchemas);
    default:
      return form satisfies never;
  }
}
