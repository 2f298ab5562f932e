/** One change as Debezium tells it. */
import {
  BEFORE_NONE,
  type Block,
  NO_TUPLE,
  OP_CREATE,
  OP_DELETE,
  OP_LETTERS,
} from "../../../../src/core/model/block.ts";
import type { Place } from "../format.ts";
import type { Layout } from "./layout.ts";
import { newOrigin, type Origin, setOrigin } from "./source.ts";

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
  place: Place;
}

export function newChange(layout: Layout, place: Place): Change {
  return {
    layout,
    op: "c",
    bytes: Buffer.alloc(0),
    before: NO_TUPLE,
    beforeKind: BEFORE_NONE,
    after: NO_TUPLE,
    origin: newOrigin(),
    place,
  };
}

/** A row that moves to another key is deleted under the old one and created under the new one. */
export function setChange(change: Change, block: Block, row: number, isDelete: boolean, place: Place): void {
  const isMoved = place.isMoved;
  const before = block.before[row]!;
  change.op = OP_LETTERS[isDelete ? OP_DELETE : isMoved ? OP_CREATE : block.op[row]!]!;
  change.bytes = block.bytes;
  change.before = isMoved && !isDelete ? NO_TUPLE : before;
  change.beforeKind = change.before === NO_TUPLE ? BEFORE_NONE : block.beforeKind[row]!;
  change.after = isDelete ? NO_TUPLE : block.after[row]!;
  change.place = place;
  setOrigin(change.origin, block, row);
}
