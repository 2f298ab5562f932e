/** What the three forms of Debezium's changes have in common. */
import type { ByteWriter } from "../../../../src/core/bytes.ts";
import { NO_TUPLE } from "../../../../src/core/model/block.ts";
import type { Header } from "../../client/record-batch.ts";
import type { Change } from "./change.ts";
import { type Layout, writeRow } from "./layout.ts";

export interface ValueWriter {
  readonly headers: readonly Header[];
  /** Whether it has a form for truncates. */
  readonly hasTruncate: boolean;
  /** The Connect schema of its records, as JSON. */
  schema(layout: Layout): string;
  write(out: ByteWriter, change: Change): void;
}

/** `"before":…,"after":…` */
export function writeStates(out: ByteWriter, { layout, bytes, before, beforeKind, after }: Change): void {
  out.ascii('"before":');
  writeState(out, layout, bytes, before, beforeKind);
  out.ascii(',"after":');
  writeState(out, layout, bytes, after);
}

function writeState(out: ByteWriter, layout: Layout, bytes: Uint8Array, offset: number, kind?: number): void {
  if (offset === NO_TUPLE) return out.ascii("null");
  writeRow(out, layout, bytes, offset, kind);
  out.ascii("}");
}

/** The fields `before` and `after` of a schema. */
export function statesSchema({ rowSchema, schemaName }: Layout): string {
  const row = `{${rowSchema},"optional":true,"name":${JSON.stringify(`${schemaName}.Value`)},"field":`;
  return `${row}"before"},${row}"after"}`;
}

/** What a record begins with that has its schema, as Connect's JsonConverter writes it. */
export function schemaPrefix(schema: string): Buffer {
  return Buffer.from(`{"schema":${schema},"payload":`);
}

/** What is the same in every record of a table, made once. */
export class PerTable<T> {
  readonly #make: (layout: Layout) => T;
  readonly #known = new WeakMap<Layout, T>();

  constructor(make: (layout: Layout) => T) {
    this.#make = make;
  }

  of(layout: Layout): T {
    let known = this.#known.get(layout);
    if (known === undefined) {
      known = this.#make(layout);
      this.#known.set(layout, known);
    }
    return known;
  }
}
