/** `format: debezium`: before, after, source, transaction, op and times, below the schema that Connect's JsonConverter writes. */
import type { ByteWriter } from "../../../../src/core/bytes.ts";
import { type Change, statesSchema, type ValueWriter, writeStates } from "./change.ts";
import type { Layout } from "./layout.ts";
import type { SourceBlock } from "./source.ts";
import { TRANSACTION_SCHEMA } from "./transactions.ts";

const REST =
  `${TRANSACTION_SCHEMA},{"type":"string","optional":false,"field":"op"},` +
  '{"type":"int64","optional":true,"field":"ts_ms"},{"type":"int64","optional":true,"field":"ts_us"},' +
  '{"type":"int64","optional":true,"field":"ts_ns"}';

export class EnvelopeWriter implements ValueWriter {
  readonly headers = [];
  readonly hasTruncate = true;
  readonly #source: SourceBlock;

  constructor(source: SourceBlock) {
    this.#source = source;
  }

  schema(layout: Layout): string {
    const fields = `${statesSchema(layout)},{${this.#source.schema},"field":"source"},${REST}`;
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
