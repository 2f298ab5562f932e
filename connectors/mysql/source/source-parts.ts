/** The objects that a source consists of; each owns its answers. */
import type { Logger } from "../../../src/core/contracts/telemetry.ts";
import { TableSelection } from "../../../src/core/table-selection.ts";
import { TableNames } from "./catalog/table-names.ts";
import { SourceTables } from "./catalog/source-tables.ts";
import type { TableRules } from "./catalog/shapes.ts";
import { StreamState } from "./transactions/stream-state.ts";
import { LogFiles, LogFilter } from "./wire/log-files.ts";
import { Server } from "./wire/server.ts";
import { LogClaim } from "./claim.ts";
import type { MysqlAddress } from "../url.ts";

/** What the configuration says. */
export interface SourceSettings extends TableRules {
  readonly address: MysqlAddress;
  /** The server_id under which the log is read. */
  readonly readerId: number;
  readonly copySessions: number;
  /** The daemon's name. */
  readonly daemon: string;
  /** The patterns of `tables`. */
  readonly tables: readonly string[];
  readonly logger: Logger;
}

export interface SourceParts {
  readonly server: Server;
  readonly files: LogFiles;
  readonly tables: SourceTables;
  readonly state: StreamState;
  readonly claim: LogClaim;
  readonly markPrefix: string;
  readonly copySessions: number;
  readonly logger: Logger;
}

/** Of a database that is only read. */
export type RowParts = Pick<SourceParts, "server" | "tables" | "copySessions">;

export function rowParts(settings: SourceSettings): RowParts {
  const { address, copySessions, readerId } = settings;
  const server = new Server(address, readerId, { follows: false });
  return { server, tables: tablesOf(settings, server, NO_LOG), copySessions };
}

export function sourceParts(settings: SourceSettings): SourceParts {
  const { address, copySessions, daemon, logger, readerId } = settings;
  const state = new StreamState();
  const server = new Server(address, readerId, { onOther: () => state.elsewhere() });
  const files = new LogFiles(server);
  const tables = tablesOf(settings, server, files);
  const markPrefix = `millrace/${daemon}`;
  return { server, files, tables, state, claim: new LogClaim(server, markPrefix), markPrefix, copySessions, logger };
}

function tablesOf(settings: SourceSettings, server: Server, log: Pick<LogFiles, "filter">): SourceTables {
  const { address, chosenKey, logger, tables: patterns, zeroDates } = settings;
  const names = new TableNames(server, new TableSelection(patterns), patterns.length === 0 ? address.database : "");
  return new SourceTables(server, log, names, { chosenKey, zeroDates, metZeroDates: { count: 0 } }, logger);
}

/** What a log leaves out does not matter to who does not follow it. */
const NO_LOG: Pick<LogFiles, "filter"> = { filter: () => Promise.resolve(new LogFilter("", "")) };
