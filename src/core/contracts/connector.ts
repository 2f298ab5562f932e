import type { Place } from "../targets/places.ts";
import type { CapturedTables } from "./catalog.ts";
import type { EnvelopeContext } from "../model/envelope.ts";
import type { QueryRequest, QueryResult, Sink, SinkForm } from "./sink.ts";
import type { Readable } from "./readable.ts";
import type { Positions } from "./positions.ts";
import type { Group } from "../sharing/group.ts";
import type { Division, Share } from "../sharing/share.ts";
import type { Login, MillraceError } from "../errors.ts";
import type { TableVersion, Scope } from "../model/schema.ts";
import type { ReadSource, Source } from "./source.ts";
import type { Logger } from "./telemetry.ts";

/**
 * A connector's config.ts exports it as `factory` (for a source of the same kind also `sourceFactory`), together with
 * `definition` (`sourceDefinition`): a zod object of the keys that only this kind has, each with `.describe(…)`. The
 * keys that all sinks have (`kind`, `tables`, `onPoison`, `onLost`, `onForeign`, `batch`) or all sources have (`kind`, `tables`,
 * `snapshot`, `heartbeat`) are not in it. connectors/registry.ts combines the two. Every command loads this module with
 * the configuration, so the driver, and the code that talks to a server, load on first use.
 */
export interface SinkFactory<Options> {
  /** What these options need beside what npm installs with Millrace. Absent: nothing. */
  extras?(options: Options): readonly Extra[];
  create(context: SinkContext<Options>, log: Logger): Promise<Sink>;
  /**
   * Preflight: connects, changes nothing, and closes. An unreachable target is a finding, not an exception. `tables`:
   * the tables to mirror, by their names at the source; undefined if the source did not answer.
   */
  check(
    context: SinkContext<Options>,
    signal: AbortSignal,
    tables?: readonly CheckedTable[],
  ): Promise<readonly Finding[]>;
  /**
   * Scripts for administrators, from the options alone; passwords are not in them. `tables` as in `check`. Absent: it
   * needs none.
   */
  grants?(context: SinkContext<Options>, tables?: readonly TableName[]): Promise<readonly GrantScript[]>;
  /**
   * What the sink writes into, one for each address of it. Two sinks that share one would overwrite each other's rows.
   * Needs no connection.
   */
  places?(context: SinkContext<Options>): readonly Place[];
  /**
   * Runs one reading statement on a target that nobody works on, or on a copy of it (`Sink.copy`), which is deleted as soon
   * as it is open. Refuses statements that change something.
   */
  query?(
    context: SinkContext<Options>,
    request: QueryRequest,
    copy: string | null,
    signal: AbortSignal,
  ): Promise<QueryResult>;
  /**
   * What keeps tables apart in the target, if several daemons can each write other tables there; see Division. Absent: one
   * daemon has the target for itself.
   */
  divides?(options: Options): Division["by"];
  /** The form of a sink with these options, before it is made. Absent: `mirror`. */
  form?(options: Options): SinkForm;
  /** The target as another tool fills it, for `millrace verify`. Absent: it can't be read so. */
  readable?(context: SinkContext<Options>, signal: AbortSignal): Promise<Readable>;
  /** Whether `query` can read the target itself while a daemon writes to it, and so needs no copy. */
  readonly isQueriedInPlace?: boolean;
  /** Whether it can take over a target that another program made; see TargetPresence. */
  readonly adopts?: true;
  /** Absent: the command line knows no URL of this kind. */
  readonly byUrl?: SinkByUrl;
  /** How a person looks at the first rows of a table, by its names in the sinks. Without passwords. Needs no connection. */
  reading?(context: SinkContext<Options>, table: TableName): Promise<Reading>;
  /**
   * Some rows of each of these tables, by their names in the sinks, as a reader of the target sees them. Null: that table could
   * not be read. Absent: a reader of this kind gets changes, and not rows.
   */
  firstRows?(
    context: SinkContext<Options>,
    tables: readonly TableName[],
    request: FirstRowsRequest,
    signal: AbortSignal,
  ): Promise<readonly (readonly TargetRow[] | null)[]>;
}

export interface FirstRowsRequest {
  readonly rowCount: number;
  /** Runs one reading statement on the target, with a copy of it where it needs one (`query`). */
  readonly query: (sql: string) => Promise<QueryResult>;
}

/** JSON texts, by column. */
export type TargetRow = ReadonlyMap<string, string>;

/** Packages that npm installs only when they are named; see src/config/extras.ts. */
export type Extra = "duckdb" | "s3" | "otlp";

/** Another sink in the same place, with a longer `start`. */
export interface Neighbour {
  readonly sink: string;
  readonly start: string;
}

/** `sql`: a statement for `millrace query`. `shell`: a command with the target's own client. */
export type Reading = { readonly sql: string } | { readonly shell: string };

/** How the command line knows a source or a sink by its URL, and what the configuration then says. */
export interface ByUrl {
  /** For help and messages, such as `redis://host:6379/0`. */
  readonly forms: readonly string[];
  /** Null: the URL is another kind's. A text: it is this kind's, and why it can't be used; without the URL, which may hold a password. */
  keys(url: string): UrlKeys | string | null;
}

/** What the block of the configuration has beside `kind`. */
export type UrlKeys = Readonly<Record<string, string | readonly string[] | UrlBlock>>;

/** A key that has keys of its own. */
export type UrlBlock = { readonly [key: string]: string | boolean };

export interface SinkByUrl extends ByUrl {
  /** What a new configuration calls the sink. */
  readonly name: string;
  /** The most likely options, one a line and as comments, each with its default. */
  readonly choices: (daemon: string) => readonly string[];
}

/** A key of the options, with dots, and why it would do nothing. */
export type IdleKey = readonly [key: string, why: string];

export interface TableName {
  readonly schema: string;
  readonly table: string;
}

/** The others: as the sink gets them. Absent: rules, or a missing grant, leave that open. */
export interface CheckedTable extends TableName, Partial<Pick<TableVersion, "columns" | "key" | "dialect">> {
  /** Behind a route, which names it otherwise in the sink: its id at the source. */
  readonly id?: string;
  /** See `TableVersion.scope`. */
  readonly scope?: Scope | undefined;
  /** See `hiddenNames`. */
  readonly hidden?: readonly string[];
}

export interface SourceFactory<Options> {
  create(context: SourceContext<Options>, log: Logger): Promise<Source>;
  /**
   * The same, for who reads without following: SELECT is all that it needs of its login, and nothing of the server's log, and
   * it keeps nobody from writing. Absent: reads by `create` are so.
   */
  rows?(context: SourceContext<Options>, log: Logger): Promise<ReadSource>;
  check(context: SourceContext<Options>, signal: AbortSignal): Promise<readonly Finding[]>;
  /**
   * Runs a migration in a transaction, looks at the tables, and takes it back. The transaction holds the locks that the
   * migration takes. Absent: the database can't take back a change of a table.
   */
  trial?(context: SourceContext<Options>, trial: Trial, signal: AbortSignal): Promise<TriedTables>;
  /** Scripts for administrators; passwords are not in them. Looks at the source if the login is accepted. */
  grants?(context: SourceContext<Options>, signal: AbortSignal): Promise<readonly GrantScript[]>;
  /**
   * Runs those scripts with the login of another URL. A login that is missing is made with the password of the options; one
   * that is there keeps its own. Returns what was run.
   */
  grantBy?(context: SourceContext<Options>, url: string, signal: AbortSignal): Promise<readonly GrantScript[]>;
  /** The text form of positions, for commands that read what the state has stored. */
  positions(): Promise<Positions>;
  /** Into how many shares the options divide the tables; undefined: one daemon has all. Absent: the source knows no shares. */
  shareCount?(options: Options): number | undefined;
  /** The processes that apply these shares. The context is of no single share. */
  group?(context: SourceContext<Options>, division: Division): Promise<Group>;
  /** Absent: the command line knows no URL of this kind. */
  readonly byUrl?: ByUrl;
}

export interface SinkContext<Options> {
  /** The sink's name: its key in the configuration. */
  readonly name: string;
  /** The configuration's `name`. */
  readonly daemon: string;
  /** The `name` in the file, where the daemon of a share has another one. Absent: as `daemon`. */
  readonly owner?: string;
  /** The configuration file's folder; relative paths start there. */
  readonly folder: string;
  readonly options: Options;
  /** The sink's `tables`; absent or empty: all of the source's. */
  readonly tables?: readonly string[];
  /** True if these are documents, which search indices and cache keys name without their schema. */
  readonly isOfDocuments?: boolean;
  /** Where the changes come from, for sinks that write envelopes. Absent where nothing is written. */
  readonly origin?: EnvelopeContext;
  /** Whether the target drops columns that the table no longer has; by default they stay. A history ignores it. */
  readonly dropsColumns?: (table: Pick<TableVersion, "id">) => boolean;
  /** `onForeign: adopt`. */
  readonly adopts?: boolean;
}

export interface SourceContext<Options> {
  /** The configuration's `name`. */
  readonly daemon: string;
  /** As in SinkContext. */
  readonly owner?: string;
  readonly folder: string;
  readonly options: Options;
  /** `schema.table` globs, `!` excludes; empty: every user table with a usable key. */
  readonly tables: readonly string[];
  /** The configuration's `snapshot`; default: initial. */
  readonly snapshot?: "initial" | "none";
  /** The key that the configuration chooses for a table; null: the source's own. */
  readonly chosenKey?: (table: TableName) => ChosenKey | null;
  /** The part of the tables that this daemon has. Absent: all that `tables` takes. */
  readonly share?: Share;
  /** MySQL and MariaDB; default: null. */
  readonly zeroDates?: (table: TableName) => ZeroDates;
}

/** What dates that do not exist (0000-00-00 and the like) become: null, 1970-01-01, or text for the whole column. */
export type ZeroDates = "null" | "epoch" | "text";

export interface ChosenKey {
  readonly columns: readonly string[];
  /** A glob chose it, for many tables: a table without such a column keeps its own key. */
  readonly isForMany: boolean;
}

/**
 * Tells the password for one new connection. Asked at each of them, so a password may change while the daemon runs.
 * Throws a numbered error whose text does not hold it.
 */
export type FreshPassword = (signal: AbortSignal) => Promise<string>;

/** Where the state is. */
export interface StateAddress {
  /**
   * `sqlite:` and an absolute path; or a Postgres URL, then `#` and the absolute path that the control socket's name is
   * made from.
   */
  readonly url: string;
  /** In place of the URL's password, for each connection. */
  readonly freshPassword?: FreshPassword | undefined;
  readonly login?: Login;
}

/** What gives a login all that a source or sink needs, and no more. It can be run again. */
export interface GrantScript {
  /** Who runs it, and where: "a superuser, in database shop". Without logins. */
  readonly by: string;
  readonly language: "sql" | "sh";
  readonly script: string;
}

export interface Trial {
  /** Statements of the database. */
  readonly script: string;
  /** How long the script may run, and how long it may wait for a lock. */
  readonly runMsMax: number;
  readonly lockMsMax: number;
}

export interface TriedTables {
  readonly before: CapturedTables;
  readonly after: CapturedTables;
  /** By table id, as far as the server knows. */
  readonly sizes: ReadonlyMap<string, TableSize>;
}

export interface TableSize {
  /** The server's estimate. */
  readonly rows: number;
  readonly bytes: number;
}

/** One result of a preflight. */
export interface Finding {
  /** Stable, for scripts: the checked thing, for example `wal_level`. */
  readonly id: string;
  /** `error`: the daemon would fail. */
  readonly level: "ok" | "warning" | "error";
  readonly what: string;
  /** The exact SQL, setting or command that fixes it. */
  readonly fix: string | null;
  /** True: the scripts of `grants` fix it. */
  readonly byPrivilege?: boolean;
  /** The error that `what` tells. Not shown. */
  readonly error?: MillraceError;
}
