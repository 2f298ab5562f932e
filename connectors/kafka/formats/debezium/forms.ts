/** The three forms of what Debezium's connectors write. */
import { ByteWriter } from "../../../../src/core/bytes.ts";
import { NO_TUPLE } from "../../../../src/core/model/block.ts";
import { writeUnixTimeJson } from "../../../../src/core/values/calendar.ts";
import { type Header, header } from "../../client/record-batch.ts";
import { type Change, statesSchema, writeStates } from "./change.ts";
import { type Layout, PerTable, writeKey, writeRow } from "./layout.ts";
import type { SourceBlock } from "./source.ts";
import { TRANSACTION_SCHEMA } from "./transactions.ts";

export type DebeziumForm = "debezium" | "debezium-flat" | "cloudevents";

export interface ValueWriter {
  readonly headers: readonly Header[];
  /** Whether it has a form for truncates. */
  readonly hasTruncate: boolean;
  /** The Connect schema of its records, as JSON. */
  schema(layout: Layout): string;
  /** `schema`: what a record begins with that has its schema; null: it has none. */
  write(out: ByteWriter, change: Change, schema: Buffer | null): void;
}

export function writerOf(form: DebeziumForm, source: SourceBlock, name: string): ValueWriter {
  switch (form) {
    case "debezium":
      return new EnvelopeWriter(source);
    case "debezium-flat":
      return new FlatWriter(source);
    case "cloudevents":
      return new CloudEventWriter(source, name);
    default:
      return form satisfies never;
  }
}

const ENVELOPE_REST =
  `${TRANSACTION_SCHEMA},{"type":"string","optional":false,"field":"op"},` +
  '{"type":"int64","optional":true,"field":"ts_ms"},{"type":"int64","optional":true,"field":"ts_us"},' +
  '{"type":"int64","optional":true,"field":"ts_ns"}';

/** `debezium`: before, after, source, transaction, op and times, below the schema that Connect's JsonConverter writes. */
class EnvelopeWriter implements ValueWriter {
  readonly headers = [];
  readonly hasTruncate = true;
  readonly #source: SourceBlock;

  constructor(source: SourceBlock) {
    this.#source = source;
  }

  schema(layout: Layout): string {
    const fields = `${statesSchema(layout)},{${this.#source.schema},"field":"source"},${ENVELOPE_REST}`;
    const name = JSON.stringify(`${layout.schemaName}.Envelope`);
    return `{"type":"struct","fields":[${fields}],"optional":false,"name":${name},"version":2}`;
  }

  write(out: ByteWriter, change: Change, schema: Buffer | null): void {
    if (schema !== null) out.copy(schema, 0, schema.length);
    out.ascii("{");
    writeStates(out, change);
    out.ascii(',"source":');
    this.#source.write(out, change.layout, change.origin);
    const { transaction, nowMs } = change.context;
    out.ascii(',"transaction":');
    if (transaction === null) out.ascii("null");
    else {
      const { id, total, inTable } = transaction;
      out.utf8(`{"id":${JSON.stringify(id)},"total_order":${total},"data_collection_order":${inTable}}`);
    }
    out.ascii(`,"op":"${change.op}","ts_ms":${nowMs},"ts_us":${nowMs}000,"ts_ns":${nowMs}000000}`);
    if (schema !== null) out.ascii("}");
  }
}

const FLAT_ADDED =
  '{"type":"string","optional":true,"field":"__deleted"},{"type":"string","optional":true,"field":"__op"},' +
  '{"type":"string","optional":true,"field":"__table"},{"type":"int64","optional":true,"field":"__source_ts_ms"}';

/**
 * `debezium-flat`: the row, and what it is of, in fields beside its columns: what Debezium's ExtractNewRecordState gives with
 * delete.tombstone.handling.mode=rewrite-with-tombstone and add.fields=op,table,source.ts_ms,lsn.
 */
class FlatWriter implements ValueWriter {
  readonly headers = [];
  readonly hasTruncate = false;
  readonly #source: SourceBlock;
  readonly #tables = new PerTable(({ own }: Layout) => JSON.stringify(own.table));

  constructor(source: SourceBlock) {
    this.#source = source;
  }

  schema({ rowSchema, schemaName }: Layout): string {
    const fields = `${rowSchema.slice(0, -1)},${FLAT_ADDED}${this.#source.flatSchema}]`;
    return `{${fields},"optional":false,"name":${JSON.stringify(`${schemaName}.Value`)}}`;
  }

  write(out: ByteWriter, change: Change, schema: Buffer | null): void {
    const { layout, op, bytes, before, beforeKind, after, origin } = change;
    if (schema !== null) out.copy(schema, 0, schema.length);
    const isDelete = after === NO_TUPLE;
    if (isDelete) writeRow(out, layout, bytes, before, beforeKind);
    else writeRow(out, layout, bytes, after);
    out.ascii(`,"__deleted":"${isDelete}","__op":"${op}","__table":`);
    out.utf8(this.#tables.of(layout));
    out.ascii(`,"__source_ts_ms":${origin.timeUs / 1000n}`);
    out.utf8(this.#source.flatFields(origin));
    out.ascii(schema === null ? "}" : "}}");
  }
}

/**
 * `cloudevents`: an event of CloudEvents 1.0 in its structured JSON form, with Debezium's attributes. Its data are before and
 * after. https://github.com/cloudevents/spec/tree/v1.0.2/cloudevents/bindings
 */
class CloudEventWriter implements ValueWriter {
  readonly headers = [header("content-type", "application/cloudevents+json; charset=UTF-8")];
  readonly hasTruncate = true;
  readonly #source: SourceBlock;
  readonly #type: string;
  readonly #name: string;
  readonly #key = new ByteWriter(256);

  constructor(source: SourceBlock, name: string) {
    this.#source = source;
    this.#name = name;
    const { connector } = source;
    const where = JSON.stringify(`/millrace/${connector}/${encodeURIComponent(name)}`);
    this.#type = `,"source":${where},"specversion":"1.0","type":"io.debezium.connector.${connector}.DataChangeEvent","time":"`;
  }

  /** Of the data alone. */
  schema(layout: Layout): string {
    const name = `"name":"io.debezium.connector.${this.#source.connector}.Data"`;
    return `{"type":"struct","fields":[${statesSchema(layout)}],"optional":false,${name}}`;
  }

  write(out: ByteWriter, change: Change, schema: Buffer | null): void {
    const { layout, op, origin, context } = change;
    out.utf8(`{"id":${JSON.stringify(this.#idOf(change))}${this.#type}`);
    writeUnixTimeJson(out, origin.timeUs);
    out.ascii(`","datacontenttype":"application/json","iodebeziumop":"${op}"`);
    for (const [name, value] of this.#source.attributes(layout.own, origin)) {
      out.utf8(`,"iodebezium${name}":${JSON.stringify(value)}`);
    }
    if (context.transaction !== null) {
      const { id, total, inTable } = context.transaction;
      out.utf8(`,"iodebeziumtxid":${JSON.stringify(id)}`);
      out.ascii(`,"iodebeziumtxtotalorder":"${total}","iodebeziumtxdatacollectionorder":"${inTable}"`);
    }
    out.ascii(',"data":');
    if (schema !== null) out.copy(schema, 0, schema.length);
    out.ascii("{");
    writeStates(out, change);
    out.ascii(schema === null ? "}}" : "}}}");
  }

  /** Different for each event, and the same each time the same change is told. A row that was read has no number: its key is it. */
  #idOf({ layout, op, bytes, after, before, origin, context }: Change): string {
    const { version, index, snapshot, timeUs } = origin;
    const { schema, table } = layout.table;
    const where = `name:${this.#name};version:${version};table:${schema}.${table}`;
    if (snapshot === "false") return `${where};index:${index}${context.isMoved ? `;op:${op}` : ""}`;
    this.#key.reset();
    writeKey(this.#key, layout, bytes, after === NO_TUPLE ? before : after);
    return `${where};time:${timeUs};key:${this.#key.view().toString()}`;
  }
}
