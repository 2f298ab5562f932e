/**
 * `format: debezium-flat`: the row, and what it is of, in fields beside its columns: what Debezium's ExtractNewRecordState gives with
 * delete.tombstone.handling.mode=rewrite-with-tombstone and add.fields=op,table,source.ts_ms,lsn.
 */
import type { ByteWriter } from "../../../../src/core/bytes.ts";
import { NO_TUPLE } from "../../../../src/core/model/block.ts";
import type { Change } from "./change.ts";
import { type Layout, writeRow } from "./layout.ts";
import type { SourceBlock } from "./source.ts";
import { PerTable, schemaPrefix, type ValueWriter } from "./writers.ts";

const ADDED =
  '{"type":"string","optional":true,"field":"__deleted"},{"type":"string","optional":true,"field":"__op"},' +
  '{"type":"string","optional":true,"field":"__table"},{"type":"int64","optional":true,"field":"__source_ts_ms"}';

export class FlatWriter implements ValueWriter {
  readonly headers = [];
  readonly hasTruncate = false;
  readonly #source: SourceBlock;
  readonly #schemas: PerTable<Buffer> | null;
  readonly #tables = new PerTable(({ table }) => JSON.stringify(table.table));

  constructor(source: SourceBlock, hasSchemas: boolean) {
    this.#source = source;
    this.#schemas = hasSchemas ? new PerTable((layout) => schemaPrefix(this.schema(layout))) : null;
  }

  schema({ rowSchema, schemaName }: Layout): string {
    const fields = `${rowSchema.slice(0, -1)},${ADDED}${this.#source.flatSchema}]`;
    return `{${fields},"optional":false,"name":${JSON.stringify(`${schemaName}.Value`)}}`;
  }

  write(out: ByteWriter, { layout, op, bytes, before, beforeKind, after, origin }: Change): void {
    const schema = this.#schemas?.of(layout);
    if (schema !== undefined) out.copy(schema, 0, schema.length);
    const isDelete = after === NO_TUPLE;
    if (isDelete) writeRow(out, layout, bytes, before, beforeKind);
    else writeRow(out, layout, bytes, after);
    out.ascii(`,"__deleted":"${isDelete}","__op":"${op}","__table":`);
    out.utf8(this.#tables.of(layout));
    out.ascii(`,"__source_ts_ms":${origin.timeUs / 1000n}`);
    out.utf8(this.#source.flatFields(origin));
    out.ascii(schema === undefined ? "}" : "}}");
  }
}
