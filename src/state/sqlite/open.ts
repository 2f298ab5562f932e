import { statSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { type Clock, systemClock } from "../../core/clock.ts";
import type { StateStore } from "../../core/contracts/state-store.ts";
import { stateError } from "../errors.ts";
import { SqliteAudit } from "./stores/audit.ts";
import { SqliteEnding, SqliteNotices } from "./stores/notices.ts";
import {
  DATABASE,
  NEST,
  SqliteBonds,
  SqliteCheckpoints,
  SqliteNumbers,
  SqliteSinks,
  SqliteSource,
} from "./stores/positions.ts";
import { Connection } from "./connection.ts";
import { upgradedCopy } from "./dump.ts";
import { SqliteDeadLetters } from "./stores/dead-letters.ts";
import { classify, damaged } from "./errors.ts";
import { SqliteLease } from "./stores/lease.ts";
import { isSound, migrate, recognise } from "./migrate.ts";
import { SqliteSnapshots } from "./stores/snapshots.ts";
import { SqliteComparisons, SqliteReports } from "./stores/reports.ts";
import { text } from "./row.ts";
import { BUSY_TIMEOUT_MS, StateFile } from "./state-file.ts";
import { SqliteProofs } from "./stores/proofs.ts";
import { SqliteSchemas } from "./stores/schemas.ts";
import { SqliteSuspensions } from "./stores/suspensions.ts";

export interface SqliteOptions {
  /** The configuration's name. A file of another name is refused. */
  readonly name?: string;
  /** For commands beside a running daemon: creates and migrates nothing. What an earlier version wrote is read as of now. */
  readonly readOnly?: boolean;
  /** Default: the machine's clock. */
  readonly clock?: Clock;
}

export function openSqlite(path: string, options: SqliteOptions): StateStore {
  const readOnly = options.readOnly ?? false;
  if (readOnly && isAbsent(path)) throw stateError("MR1203", `there is no state file ${path}`, { reason: "absent" });
  const file = readOnly ? null : StateFile.at(path);
  let database = openDatabase(path, readOnly);
  try {
    const found = recognise(database, path);
    if (!isSound(database)) throw damaged(path);
    if (readOnly) {
      if (found === "empty") throw stateError("MR1203", `the state file ${path} is empty`, { reason: "absent" });
      const copy = upgradedCopy(database, path, BUSY_TIMEOUT_MS);
      if (copy !== null) {
        database.close();
        database = copy;
      }
    } else {
      configure(database);
      migrate(database, path);
    }
    if (options.name !== undefined) claimName(database, path, options.name, readOnly);
    file?.written();
    return assemble(new Connection(database, path, options.clock ?? systemClock, file));
  } catch (error) {
    database.close();
    throw classify(error, path);
  }
}

/** A state that ends with this process. */
export function openMemory(clock: Clock): StateStore {
  const database = new DatabaseSync(":memory:");
  database.exec("PRAGMA foreign_keys = ON");
  migrate(database, "in memory");
  return assemble(new Connection(database, "in memory", clock));
}

export function assemble(connection: Connection): StateStore {
  const snapshots = new SqliteSnapshots(connection);
  const sinks = new SqliteSinks(connection, snapshots);
  return {
    lease: new SqliteLease(connection),
    source: new SqliteSource(connection, sinks, DATABASE),
    nest: new SqliteSource(connection, sinks, NEST),
    sinks,
    bonds: new SqliteBonds(connection, snapshots),
    checkpoints: new SqliteCheckpoints(connection),
    numbers: new SqliteNumbers(connection),
    schemas: new SqliteSchemas(connection),
    snapshots,
    suspensions: new SqliteSuspensions(connection),
    deadLetters: new SqliteDeadLetters(connection, snapshots),
    reports: new SqliteReports(connection),
    comparisons: new SqliteComparisons(connection),
    proofs: new SqliteProofs(connection),
    audit: new SqliteAudit(connection),
    notices: new SqliteNotices(connection),
    ending: new SqliteEnding(connection),
    dump: async () => connection.dump(),
    restore: async (dump) => connection.restore(dump),
    remove: async () => connection.remove(),
    close: async () => connection.close(),
  };
}

/** False for one in a folder that may not be looked into: what it has is not known. */
function isAbsent(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) === undefined;
  } catch {
    return false;
  }
}

function openDatabase(path: string, readOnly: boolean): DatabaseSync {
  try {
    return new DatabaseSync(path, { readOnly, timeout: BUSY_TIMEOUT_MS });
  } catch (error) {
    throw classify(error, path);
  }
}

/**
 * FULL syncs each commit in WAL mode. All acknowledgements to the source depend on that. Dead letters that are removed hold
 * values that a mask may hide now: their bytes go too.
 */
function configure(database: DatabaseSync): void {
  database.exec(
    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON",
  );
}

function claimName(database: DatabaseSync, path: string, name: string, readOnly: boolean): void {
  if (!readOnly) database.prepare("INSERT INTO store (one, name) VALUES (1, ?) ON CONFLICT DO NOTHING").run(name);
  const row = database.prepare("SELECT name FROM store").get();
  if (row !== undefined && text(row, "name") !== name)
    throw stateError("MR1211", `the state file ${path} belongs to "${text(row, "name")}", not to "${name}"`);
}
