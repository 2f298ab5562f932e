/** One change as Debezium tells it, and what its three forms have in common. */
import {
  BEFORE_NONE,
  type Block,
  NO_TUPLE,
  OP_CREATE,
  OP_DELETE,
  OP_LETTERS,
} from "../../../../src/core/model/block.ts";
import type { RecordContext } from "../format.ts";
import { type Layout, writeRow } from "./layout.ts";
import { newOrigin, type Origin, setOrigin } from "./source.ts";
import type { ByteWriter } from "../../../../src/core/bytes.ts";

/** One object, which the next change replaces. */
export interface Change {
  layout: Layout;
  op: (typeof OP_LETTERS)[number];
  bytes: Uint8Array;
  /** NO_TUPLE: there is none. */
  before: number;
  beforeKind: number;
  after: number;
  readonly origin: Origin;
  context: RecordContext;
}

export function newChange(layout: Layout, context: RecordContext): Change {
  return {
    layout,
    op: "c",
    bytes: Buffer.alloc(0),
    before: NO_TUPLE,
    beforeKind: BEFORE_NONE,
    after: NO_TUPLE,
    origin: newOrigin(),
    context,
  };
}

/** A row that moves to another key is deleted under the old one and created under the new one. */
export function setChange(change: Change, block: Block, row: number, isDelete: boolean, context: RecordContext): void {
  const isMoved = context.isMoved;
  const before = block.before[row]!;
  change.op = OP_LETTERS[isDelete ? OP_DELETE : isMoved ? OP_CREATE : block.op[row]!]!;
  change.bytes = block.bytes;
  change.before = isMoved && !isDelete ? NO_TUPLE : before;
  change.beforeKind = change.before === NO_TUPLE ? BEFORE_NONE : block.beforeKind[row]!;
  change.after = isDelete ? NO_TUPLE : block.after[row]!;
  change.context = context;
  setOrigin(change.origin, block, row);
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
