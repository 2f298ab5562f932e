/** Checkpoints, and complete tables from the texts that stand for them in a test. */
import { type CompleteTables, isCompleteTables, type Checkpoint } from "../../../src/core/checkpoint.ts";
import { invariant } from "../../../src/core/invariant.ts";
import type { Position } from "../../../src/core/model/position.ts";

export function complete(tables: Readonly<Record<string, string>>): CompleteTables {
  invariant(isCompleteTables(tables), "texts by table id");
  return tables;
}

/** Bound to no state that a test has. */
export function checkpointOf(position: Position, tables: CompleteTables = {}): Checkpoint {
  return {
    position,
    tables,
    place: "a place",
    bond: { state: "ab", session: "cd", batch: 7, obligation: 3, resets: ["e5"] },
  };
}
