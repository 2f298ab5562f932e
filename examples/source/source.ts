import type {
  CreatedLog,
  CreateRequest,
  FirstCopy,
  HeldPositions,
  LogAdmin,
} from "../../src/core/contracts/log-admin.ts";
import type { LogIdentity, Positions } from "../../src/core/contracts/positions.ts";
import type { Source } from "../../src/core/contracts/source.ts";
import { capturedTables, publish, withdraw } from "./catalog.ts";
import { Database, type SqliteSettings } from "./database.ts";
import { LOSSES, sqliteError } from "./errors.ts";
import { readAll, readKeys, readRange } from "./rows.ts";
import { LogStream, MARK_PREFIX } from "./stream.ts";

/** A SQLite file as a source: each capability is put together from the parts that do the work. */
export function sqliteSource({ path, selection }: SqliteSettings): Source {
  let opened: Database | null = null;
  /** For short statements; each stream and each copy has a connection of its own. */
  const database = (): Database => (opened ??= new Database(path));
  return {
    kind: "sqlite",
    database: "main",
    positions: POSITIONS,
    log: {
      stream: async (from, options) => new LogStream(new Database(path), from, options),
      tip: async () => database().tip(),
      earliest: async () => database().meta().keptFrom,
    },
    admin: logAdmin(database, { path, selection }),
    catalog: {
      tables: async () => database().read("reading the tables", () => capturedTables(database(), selection)),
      publish: async () => database().write("making triggers", () => publish(database(), selection)),
    },
    rows: {
      readRange: async (table, range) => readRange(database(), table, range),
      readKeys: async (table, keys) => readKeys(database(), table, keys),
    },
    watermarks: {
      markPrefix: MARK_PREFIX,
      mark: async (content) => void database().write("writing a mark", () => database().mark(content)),
      renew: async () => database().write("writing a mark", () => database().mark("")),
    },
    close: async () => {
      opened?.[Symbol.dispose]();
      opened = null;
    },
  };
}

/** Positions are the numbers of changes. */
export const POSITIONS: Positions = {
  format: String,
  parse: BigInt,
  distance: (a, b) => Number(a < b ? b - a : a - b),
};

function logAdmin(database: () => Database, settings: SqliteSettings): LogAdmin {
  return {
    losses: LOSSES,
    create: async (request) => createLog(database(), settings, request),
    resume: async (identity, held) => resumeLog(database(), identity, held),
    made: async () => (database().hasLog ? [{ what: "the tables millrace_* and their triggers", isOurs: true }] : []),
    remove: async () =>
      database().write("removing the log", () => {
        withdraw(database());
        for (const table of ["log", "shape", "meta"]) database().execute(`DROP TABLE IF EXISTS millrace_${table}`);
      }),
    health: async () => {
      const [tip, { keptFrom }] = [database().tip(), database().meta()];
      return { tip, retainedBytes: Number(tip - keptFrom), safeBytes: null, warnings: [] };
    },
  };
}

/** While this writes, no other transaction does: so a reader that begins meanwhile sees exactly what precedes the mark. */
function createLog(database: Database, settings: SqliteSettings, { epoch, wantCopy }: CreateRequest): CreatedLog {
  database.write("making the log", () => {
    database.addTables();
    publish(database, settings.selection);
  });
  return database.write("making the log", () => {
    const copy = wantCopy ? firstCopy(settings) : null;
    const position = { epoch, commit: database.mark("") + 1n, index: 0 };
    return { identity: { log: database.meta().id }, position, copy };
  });
}

function firstCopy({ path, selection }: SqliteSettings): FirstCopy {
  const reader = new Database(path, true);
  reader.stayAtThisMoment();
  const { tables, generations } = capturedTables(reader, selection);
  return {
    tables,
    generations,
    async *read(table) {
      yield* readAll(reader, table);
    },
    close: async () => reader[Symbol.dispose](),
  };
}

function resumeLog(database: Database, identity: LogIdentity, { from, reached }: HeldPositions): LogIdentity {
  const { id, keptFrom } = database.meta();
  if (id !== identity["log"]) throw sqliteError("MR2013", "fatal", "the file has another log than the stored one");
  const tip = database.tip();
  if (reached.commit > tip)
    throw sqliteError("MR2016", "fatal", `the log ends at ${tip}, and ${reached.commit} was read`);
  if (from.commit < keptFrom)
    throw sqliteError("MR2010", "fatal", `the log begins at ${keptFrom}, and ${from.commit} is needed`);
  return identity;
}
