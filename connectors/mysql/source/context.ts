import type { ChosenKey, TableName, ZeroDates } from "../../../src/core/contracts/connector.ts";
import type { Logger } from "../../../src/core/contracts/telemetry.ts";
import type { MysqlAddress } from "../url.ts";
import type { Reader } from "./reader.ts";
import type { Database } from "./database.ts";
import type { Host } from "./transactions/host.ts";
import type { Marks } from "./marks.ts";
import type { LogNames } from "./log/position.ts";
import type { ReadTransactions } from "./transactions/read-transactions.ts";
import type { SettledShapes } from "./catalog/settled-shapes.ts";
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
  readonly names: LogNames;
  readonly spelling: Spelling;
  readonly marks: Marks;
  readonly read: ReadTransactions;
  readonly shapes: SettledShapes;
  readonly reader: Reader;
  readonly markPrefix: string;
  readonly captures: (schema: string, table: string) => boolean;
  readonly isLiteral: (schema: string, table: string) => boolean;
  /** Tables that are named without wildcards. */
  readonly literals: readonly string[];
  readonly chosenKey: (table: TableName) => ChosenKey | null;
  readonly zeroDates: (table: TableName) => ZeroDates;
  /** Dates that do not exist, as they were met since the start. */
  readonly metZeroDates: { count: number };
  readonly logger: Logger;
  /** Where the main stream is; undefined before. */
  log: LogFile | undefined;
  /** Undefined before the main stream has read one. */
  landmark: Landmark | undefined;
  /** The log's files as they were when last asked for. */
  files: readonly LogFileSize[];
  /** Views of InnoDB's tables that this server or user does not have. */
  readonly withoutIds: Set<string>;
  /** When the file that is still needed was written to last, in seconds since 1970. */
  closed: { readonly file: number; readonly at: number } | undefined;
  /** Everything before it may be forgotten. */
  acknowledged: bigint;
}

/** An event that was read: as long as it is there the log is the one that was read, up to it. */
export interface Landmark {
  readonly start: bigint;
  readonly checksum: number;
}

/** A file that the main stream began to read. */
export interface LogFile {
  readonly file: number;
  /** When the server began it, in seconds since 1970: after a reset the same name stands for another file. */
  readonly createdAt: number;
}
