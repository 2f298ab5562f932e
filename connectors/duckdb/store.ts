import type { Writers } from "./joining.ts";
import type { EngineConnection } from "../kit/duckdb-engine/engine.ts";
import type { TargetName } from "./names.ts";
import type { DuckdbTarget, NotedTable } from "./tables/existing.ts";
import type { StageFile } from "./write/stage-file.ts";

/** What DuckDB's engine has open for a sink: a file (`Database`) or a lake (`Lake`). All its users share it. */
export interface Store {
  /** The name under which statements find its tables. */
  readonly catalogue: string;
  /** Two, so that one can be filled while the other is read. Only used inside `exclusively`. */
  readonly stages: readonly [StageFile, StageFile];
  readonly writers: Writers;
  /** It can no longer be used, and must be opened again. */
  broken: boolean;
  connect(): Promise<EngineConnection>;
  tables(connection: EngineConnection): Promise<readonly NotedTable[]>;
  /** See `lookUpTargets`. */
  find(connection: EngineConnection, targets: readonly TargetName[]): Promise<ReadonlyMap<string, DuckdbTarget>>;
  /** Another text than before if another writer has committed in between. */
  lastCommit(connection: EngineConnection): Promise<string>;
  /** Another text after each commit, whoever wrote. */
  version(connection: EngineConnection): Promise<string>;
  /** By `targetKey`, whose these targets are at this moment, also within a transaction. Absent: no other process writes there. */
  noted?(targets: readonly TargetName[]): Promise<ReadonlyMap<string, NotedTable>>;
  /** Throws if what we write is no longer what is found under its name. */
  verifyPlace(): void;
  /** Writers take turns: they share the staged files, and of two conflicting writers only one could commit. */
  exclusively<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T>;
  /** Runs a read whose rows others may move meanwhile. It may run several times. */
  whole<T>(read: () => Promise<T>): Promise<T>;
  /** SQL that gives the same rows as this, however slowly its result is read. For this connection, once. */
  listed(connection: EngineConnection, sql: string, signal: AbortSignal): Promise<string>;
  /** Provides memory for writing a row of this size, until the batch ends. Called between two statements. */
  makeRoom(connection: EngineConnection, rowBytes: number): Promise<void>;
  /** For a batch that ran out of memory. */
  makeMoreRoom(connection: EngineConnection): Promise<void>;
  /** Returns memory that committed rows still occupy; false: none. */
  freeMemory(connection: EngineConnection): Promise<boolean>;
  release(): Promise<void>;
}
