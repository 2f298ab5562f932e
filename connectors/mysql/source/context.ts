import type { ChosenKey, TableName, ZeroDates } from "../../../src/core/contracts/connector.ts";
import type { Logger } from "../../../src/core/contracts/telemetry.ts";
import type { MysqlAddress } from "../url.ts";
import type { Reader } from "./reader.ts";
import type { Database } from "./database.ts";
import type { Host } from "./transactions/host.ts";
import type { Marks } from "./marks.ts";
import type { LogNames } from "./log/position.ts";
import type { ReadTransactions } from "./transactions/read-transactions.ts";
import type { Alterations } from "./catalog/alterations.ts";
import type { LoggedShapes } from "./catalog/logged-shapes.ts";
import type { Programs } from "./statements/programs.ts";
import type { Spelling } from "./statements/spelling.ts";

export interface LogFileSize {
  readonly file: number;
  readonly size: number;
}

/** What the parts of one source share. */
export interface SourceContext {
  readonly address: MysqlAddress;
  readonly host: Host;
  readonly database: Database;
  readonly serverId: number;
  /** How many sessions read a large table of the initial snapshot. */
  readonly copySessions: number;
  readonly names: LogNames;
  readonly spelling: Spelling;
  readonly marks: Marks;
  readonly read: ReadTransactions;
  readonly shapes: LoggedShapes;
  readonly alterations: Alterations;
  readonly programs: Programs;
  readonly reader: Reader;
  readonly markPrefix: string;
  readonly captures: (schema: string, table: string) => boolean;
  readonly isLiteral: (schema: string, table: string) => boolean;
  /** Tables that `tables` names without wildcards. */
  readonly literals: readonly string[];
  /** The patterns of the selection that fit none of these tables. */
  readonly idle: (names: readonly TableName[]) => readonly string[];
  readonly chosenKey: (table: TableName) => ChosenKey | null;
  readonly zeroDates: (table: TableName) => ZeroDates;
  /** Counts of dates that do not exist, since the start. */
  readonly metZeroDates: { count: number };
  readonly logger: Logger;
  /** The main stream's position; undefined before. */
  log: LogFile | undefined;
  /** Undefined before the main stream has read an event. */
  landmark: Landmark | undefined;
  /** The log's files as of the last request. */
  files: readonly LogFileSize[];
  /** Views of InnoDB's tables that this server or user does not have. */
  readonly withoutIds: Set<string>;
  /** The generations of tables that are known to have no key, by schema and table with a zero between. */
  readonly keyless: Map<string, string>;
  /** Ids of tables that the server has said not to have. */
  readonly dropped: Set<string>;
  /** When the oldest file that is still needed was last written, in seconds since 1970. */
  closed: { readonly file: number; readonly at: number } | undefined;
  /** The source may forget everything before it. */
  acknowledged: bigint;
}

/** An event that was read. If the log still has it, it is the same log, up to this event. */
export interface Landmark {
  readonly start: bigint;
  readonly checksum: number;
}

/** A file that the main stream began to read. */
export interface LogFile {
  readonly file: number;
  /** When the server began it, in seconds since 1970: after a reset, another file has the same name. */
  readonly createdAt: number;
}
