import type { Compatibility } from "./schema-change.ts";

/** What happens when a table's shape changes. */
export interface SchemaPolicy {
  /**
   * `evolve`: the sinks follow. `pause`: the table is suspended until an operator approves. `ignore`: the sinks keep
   * their shape.
   */
  readonly schemaChange: "evolve" | "pause" | "ignore";
  /** Which changes may evolve; others pause. */
  readonly compatibility: Compatibility;
  /** Whether a table that appears after the first start is captured at once, or waits for approval. */
  readonly newTables: "take" | "wait";
  /** Whether a warehouse keeps columns that the table no longer has, null from then on. */
  readonly droppedColumns: "keep" | "drop";
}

export const DEFAULT_POLICY: SchemaPolicy = {
  schemaChange: "evolve",
  compatibility: "none",
  newTables: "take",
  droppedColumns: "keep",
};
