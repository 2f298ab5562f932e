/**
 * `format: cloudevents`: an event of CloudEvents 1.0 in its structured JSON form, with Debezium's attributes. Its data are before and
 * after. https://github.com/cloudevents/spec/tree/v1.0.2/cloudevents/bindings
 */
import { ByteWriter } from "../../../../src/core/bytes.ts";
import { NO_TUPLE } from "../../../../src/core/model/block.ts";
import { writeUnixTimeJson } from "../../../../src/core/values/calendar.ts";
import { header } from "../../client/record-batch.ts";
import { type Change, statesSchema, type ValueWriter, writeStates } from "./change.ts";
import { type Layout, writeKey } from "./layout.ts";
import type { SourceBlock } from "./source.ts";

export class CloudEventWriter implements ValueWriter {
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
