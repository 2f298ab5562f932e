/**
 * `format: debezium-flat`: the row, and what it is of, in fields beside its columns: what Debezium's ExtractNewRecordState gives with
 * delete.tombstone.handling.mode=rewrite-with-tombstone and add.fields=op,table,source.ts_ms,lsn.
 */
import type { ByteWriter } from "../../../../src/core/bytes.ts";
import { NO_TUPLE } from "../../../../src/core/model/block.ts";
import type { Change, ValueWriter } from "./change.ts";
import { type Layout, PerTable, writeRow } from "./layout.ts";
import type { SourceBlock } from "./source.ts";

const ADDED =
  '{"type":"string","optional":true,"field":"__deleted"},{"type":"string","optional":true,"field":"__op"},' +
  '{"type":"string","optional":true,"field":"__table"},{"type":"int64","optional":true,"field":"__source_ts_ms"}';

export class FlatWriter implements ValueWriter {
  readonly headers = [];
  readonly hasTruncate = false;
  readonly #source: SourceBlock;
  readonly #tables = new PerTable(({ own }: Layout) => JSON.stringify(own.table));

  constructor(source: SourceBlock) {
    this.#source = source;
  }

  schema({ rowSchema, schemaName }: Layout): string {
    const fields = `${rowSchema.slice(0, -1)},${ADDED}${this.#source.flatSchema}]`;
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
