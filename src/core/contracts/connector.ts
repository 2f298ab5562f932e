import type { QueryRequest, QueryResult, Sink } from "./sink.ts";
import type { Source } from "./source.ts";
import type { Logger } from "./telemetry.ts";

/**
 * What a connector's config.ts exports as `factory` (a source's beside it as `sourceFactory` where a kind is both), next
 * to `definition` (`sourceDefinition`): a zod object of the keys that only this kind has, each with `.describe(…)`.
 * `kind`, `tables`, `onPoison`, `onLost`, `batch` of sinks and `kind`, `tables`, `snapshot`, `heartbeat` of sources are everybody's
 * and not in it. connectors/registry.ts binds the two. The module is read with the configuration, by every command: what
 * speaks to a server, and its driver, is loaded where it is first needed.
 */
export interface SinkFactory<Options> {
  create(context: SinkContext<Options>, log: Logger): Promise<Sink>;
  /**
   * Preflight: connects, changes nothing, and closes. An unreachable target is a finding, not an exception. `tables` are
   * those that it would mirror, under their names at the source; left out where the source could not be asked.
   */
  check(context: SinkContext<Options>, signal: AbortSignal, tables?: readonly TableName[]): Promise<readonly Finding[]>;
  /**
   * What it writes into, one text for each address under which that can be reached. Two sinks that share one would write
   * over each other's rows. For people too, so without logins. Needs no connection.
   */
  places?(context: SinkContext<Options>): readonly string[];
  /**
   * One statement that reads, on the target while nobody works on it, or on a copy of it (`Sink.copy`), which is removed as
   * soon as it is open. Changes nothing: what would is refused.
   */
  query?(
    context: SinkContext<Options>,
    request: QueryRequest,
    copy: string | null,
    signal: AbortSignal,
  ): Promise<QueryResult>;
}

export interface TableName {
  readonly schema: string;
  readonly table: string;
}

export interface SourceFactory<Options> {
  create(context: SourceContext<Options>, log: Logger): Promise<Source>;
  check(context: SourceContext<Options>, signal: AbortSignal): Promise<readonly Finding[]>;
}

export interface SinkContext<Options> {
  /** The sink's name: its key in the configuration. */
  readonly name: string;
  /** The configuration's `name`. */
  readonly daemon: string;
  /** The configuration file's folder: relative paths are resolved against it. */
  readonly folder: string;
  readonly options: Options;
  /** Whether columns that a table no longer has go from its target; by default they stay. Of no meaning for a history. */
  readonly dropsColumns?: (table: TableName) => boolean;
}

export interface SourceContext<Options> {
  /** The configuration's `name`. */
  readonly daemon: string;
  readonly folder: string;
  readonly options: Options;
  /** `schema.table` globs, `!` excludes; empty: every user table with a usable key. */
  readonly tables: readonly string[];
  /** The configuration's `snapshot`; default: initial. */
  readonly snapshot?: "initial" | "none";
  /** The key that the configuration chooses for a table; null: the source's own. */
  readonly chosenKey?: (table: TableName) => ChosenKey | null;
  /** MySQL and MariaDB; default: null. */
  readonly zeroDates?: (table: TableName) => ZeroDates;
}

/** What becomes of dates that do not exist (0000-00-00 and the like): null, 1970-01-01, or, for the whole column, text. */
export type ZeroDates = "null" | "epoch" | "text";

export interface ChosenKey {
  readonly columns: readonly string[];
  /** Chosen for many tables: one that lacks such a column keeps its own key. */
  readonly isForMany: boolean;
}

/** One result of a preflight. */
export interface Finding {
  /** Stable, for scripts: what was looked at, for example `wal_level`. */
  readonly id: string;
  /** `error`: the daemon would fail. */
  readonly level: "ok" | "warning" | "error";
  readonly what: string;
  /** The exact SQL, setting or command that puts it right. */
  readonly fix: string | null;
}
