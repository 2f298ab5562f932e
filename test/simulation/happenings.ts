/** What a plan is made of: all that can happen in a run. */
import type { Alteration, Operation } from "./database.ts";
import type { Policy, RuleKind } from "./ruling.ts";

export interface Plan {
  readonly seed: number;
  /** From then on faults have ended, in milliseconds; left out: a second. */
  readonly lastsMs?: number;
  readonly tables: number;
  /** Rows of each table that are there before the daemon starts. */
  readonly rows: number;
  readonly chunkRows: number;
  readonly sinks: readonly SinkKind[];
  /** Targets take one table in a batch; left out: as many as there are. */
  readonly isNarrow?: true;
  /** Left out: it keeps its log for a slot. */
  readonly source?: "binlog";
  /** Before they are changed; left out: none. */
  readonly rules?: RuleKind;
  /** What becomes of a change of a table's shape, before that is changed; left out: sinks follow it. */
  readonly policy?: Policy;
  /** The continuous comparison runs; left out: it does not. */
  readonly proves?: true;
  readonly happenings: readonly Happening[];
}

/**
 * `by-row`: stores rows before the checkpoint. `cache`: the same, and it evicts rows. `stream`: passes every change on, as a
 * topic does.
 */
export type SinkKind = "transactional" | "by-row" | "cache" | "stream";

export type WeatherKind = "failures" | "lost answers" | "hanging" | "late" | "down" | "slow" | "crawling";

export type Happening = { readonly atMs: number } & (
  | {
      readonly what: "transaction";
      readonly operations: readonly Operation[];
      readonly commitsAfterMs: number;
      readonly shownAfterMs: number;
      readonly isRolledBack: boolean;
    }
  | { readonly what: "crash"; readonly afterCalls: number; readonly downMs: number }
  | { readonly what: "stop"; readonly downMs: number }
  | { readonly what: "weather"; readonly place: "source" | number; readonly kind: WeatherKind; readonly forMs: number }
  /** Operators. */
  | { readonly what: "pause"; readonly sink: number; readonly forMs: number }
  /** `downMs`: as long the daemon is stopped for each of the two; null: it runs. */
  | {
      readonly what: "pause table";
      readonly sink: number;
      readonly table: number;
      readonly forMs: number;
      readonly downMs: number | null;
    }
  | {
      readonly what: "snapshot";
      readonly sink: number | null;
      readonly table: number | null;
      readonly hasCondition: boolean;
      /** Null: the daemon runs; else it is stopped for it. */
      readonly downMs: number | null;
    }
  /** By now the sink has the table that was to be read again for it. */
  | { readonly what: "read by now"; readonly sink: number; readonly table: number }
  | { readonly what: "reset"; readonly sink: number | null; readonly to: "earliest" | "latest" | "snapshot" }
  | { readonly what: "recover"; readonly sink: number | null; readonly isForced: boolean }
  | { readonly what: "export"; readonly importAfterMs: number }
  | { readonly what: "without sink"; readonly sink: number; readonly forMs: number }
  | { readonly what: "teardown"; readonly withSinks: boolean; readonly downMs?: number }
  | { readonly what: "wait" }
  | { readonly what: "rules"; readonly kind: RuleKind; readonly downMs: number }
  | { readonly what: "policy"; readonly to: Policy; readonly downMs: number }
  | { readonly what: "approve"; readonly table: number; readonly downMs: number | null }
  /** Compares, and repairs what differs. */
  | { readonly what: "repair" }
  /** Sinks. */
  | { readonly what: "evict"; readonly sink: number; readonly key: number }
  | { readonly what: "empty"; readonly sink: number }
  /** Somebody drops one of the sink's tables, or takes all rows from it. */
  | { readonly what: "table lost"; readonly sink: number; readonly table: number; readonly how: "dropped" | "emptied" }
  /** Somebody writes into a row of the sink, or takes it away. */
  | { readonly what: "spoil"; readonly sink: number; readonly key: number; readonly how: "change" | "remove" | "add" }
  | { readonly what: "sink restored"; readonly sink: number; readonly afterMs: number }
  /** It refuses batches of several tables, and does not say why. */
  | { readonly what: "refuse together"; readonly sink: number; readonly forMs: number }
  | { readonly what: "refuse"; readonly sink: number; readonly key: number; readonly forMs: number }
  /** The state. */
  | { readonly what: "state restored"; readonly afterMs: number }
  | { readonly what: "state lost" }
  | { readonly what: "disk full"; readonly forMs: number }
  /** The source. */
  | { readonly what: "alter"; readonly table: number; readonly how: Alteration }
  | { readonly what: "drop"; readonly table: number; readonly againAfterMs: number | null }
  | { readonly what: "swap"; readonly table: number }
  | { readonly what: "rename"; readonly table: number; readonly backAfterMs: number | null }
  | { readonly what: "unlogged"; readonly table: number; readonly key: number }
  /** Rows whose keys are even, or odd; `areChanged`: before they come back. */
  | {
      readonly what: "detach";
      readonly table: number;
      readonly part: number;
      readonly backAfterMs: number | null;
      readonly areChanged: boolean;
    }
  | { readonly what: "slot lost" }
  /** Of a log that is kept for a time: this share of it is thrown away. */
  | { readonly what: "purge"; readonly share: number }
  /** Another host takes over, with the same transactions, or without those of the last moments. */
  | { readonly what: "failover"; readonly lacksMs: number | null }
  | { readonly what: "source restored"; readonly afterMs: number }
  | { readonly what: "no second stream"; readonly forMs: number }
  | { readonly what: "park"; readonly sink: number }
  /** The source keeps too much log for a sink that does not flow. */
  | { readonly what: "give up"; readonly sink: number }
  /** The machine. */
  | { readonly what: "second daemon"; readonly forMs: number }
  | { readonly what: "stands still"; readonly forMs: number }
  | { readonly what: "clock"; readonly byMs: number }
);
