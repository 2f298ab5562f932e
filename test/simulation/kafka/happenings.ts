/** What a plan with Kafka between two sides is made of. */
import type { Alteration } from "../database.ts";
import type { WeatherKind } from "../happenings.ts";
import type { TransactionAct } from "../transacting.ts";

export interface KafkaPlan {
  readonly seed: number;
  /** From then on faults have ended, in milliseconds. */
  readonly lastsMs: number;
  readonly tables: number;
  /** Rows of each table that are there before anything starts. */
  readonly rows: number;
  readonly chunkRows: number;
  /** Of each topic of a table; 0: there are none, only the log. */
  readonly partitions: number;
  /** Of these topics the brokers keep the newest record of each key. Left out: all. */
  readonly areCompacted?: true;
  /** All tables are in one of them. */
  readonly isSingle?: true;
  /** Rules of all shares hide large values of one table, which gets a name that may be in another share. */
  readonly isNamed?: true;
  readonly shares: number;
  /** Processes that share them, at the beginning. */
  readonly processes: number;
  /** Each process on a machine of its own: nobody knows of the others whether they run. */
  readonly areApart: boolean;
  /** What sinks of each share are. */
  readonly sinks: readonly ("transactional" | "by-row")[];
  /** The largest batch of a topic: of a small one each frame is in many parts. */
  readonly batchBytesMax: number;
  /** What happens begins while everything is being started; else when all shares stream. */
  readonly isCold: boolean;
  readonly happenings: readonly KafkaHappening[];
}

export type KafkaHappening = { readonly atMs: number } & (
  | Omit<TransactionAct, "atMs">
  | { readonly what: "alter"; readonly table: number; readonly how: Alteration }
  /** The table that rules name. */
  | { readonly what: "rename" }
  /** Of the daemon that captures. */
  | { readonly what: "capture crash"; readonly afterCalls: number; readonly downMs: number }
  | { readonly what: "capture stop"; readonly downMs: number }
  | { readonly what: "capture stands still"; readonly forMs: number }
  /** Its rules hide large values from then on, or nothing. */
  | { readonly what: "capture rules"; readonly kind: "masks" | "none"; readonly downMs: number }
  /** It goes on in a new epoch, as after the loss of its place in the source's log. */
  | { readonly what: "capture recovers" }
  /** Of the processes that share the tables. */
  | { readonly what: "crash"; readonly process: number; readonly afterCalls: number; readonly downMs: number | null }
  | { readonly what: "stop"; readonly process: number; readonly downMs: number | null }
  | { readonly what: "stands still"; readonly process: number; readonly forMs: number; readonly withShares: boolean }
  | { readonly what: "another process" }
  /** While the next transaction ends: some of its partitions are never told. */
  | { readonly what: "brokers killed"; readonly downMs: number }
  /** Of the daemon of one share. */
  | { readonly what: "share crash"; readonly share: number; readonly afterCalls: number }
  | { readonly what: "share stands still"; readonly share: number; readonly forMs: number }
  | { readonly what: "snapshot"; readonly share: number }
  | {
      readonly what: "weather";
      readonly place: "broker" | "source" | number;
      readonly kind: WeatherKind;
      readonly forMs: number;
    }
  /** Retention takes the log before what every share has stored. */
  | { readonly what: "retention" }
);
