/** The objects that a source consists of; each owns its answers. */
import type { Logger } from "../../../src/core/contracts/telemetry.ts";
import { TableSelection } from "../../../src/core/table-selection.ts";
import { TableNames } from "./catalog/table-names.ts";
import { SourceTables } from "./catalog/source-tables.ts";
import type { TableRules } from "./catalog/shapes.ts";
import { StreamState } from "./transactions/stream-state.ts";
import { LogFiles } from "./wire/log-files.ts";
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

export function sourceParts(settings: SourceSettings): SourceParts {
  const { address, chosenKey, copySessions, daemon, logger, readerId, tables: patterns, zeroDates } = settings;
  const state = new StreamState();
  const server = new Server(address, readerId, () => state.elsewhere());
  const files = new LogFiles(server);
  const names = new TableNames(server, new TableSelection(patterns), patterns.length === 0 ? address.database : "");
  const tables = new SourceTables(server, files, names, { chosenKey, zeroDates, metZeroDates: { count: 0 } }, logger);
  const markPrefix = `millrace/${daemon}`;
  return { server, files, tables, state, claim: new LogClaim(server, markPrefix), markPrefix, copySessions, logger };
}
