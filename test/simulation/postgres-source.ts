/** A source that keeps its log as Postgres does: a slot, whose confirmed place only moves on, and a stream that begins there. */
import type { Block } from "../../src/core/model/block.ts";
import { type ErrorCode, MillraceError } from "../../src/core/errors.ts";
import { baseVersion, type Position } from "../../src/core/model/position.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type { Catalog } from "../../src/core/contracts/catalog.ts";
import type { ChangeLog } from "../../src/core/contracts/change-log.ts";
import type { FirstCopy, LogAdmin } from "../../src/core/contracts/log-admin.ts";
import { distanceInBytes, type LogIdentity } from "../../src/core/contracts/positions.ts";
import type { RowReads } from "../../src/core/contracts/row-reads.ts";
import type { Source } from "../../src/core/contracts/source.ts";
import type { Watermarks } from "../../src/core/contracts/watermarks.ts";
import type { Change } from "../support/model/blocks.ts";
import type { Database, Row, Table } from "./database.ts";
import { Connection } from "./network.ts";
import { forget, type Server, type Slot } from "./server.ts";
import { MARK_PREFIX, Stream } from "./postgres-stream.ts";
import type { SimulatedProcess } from "./scheduler.ts";

export function lost(code: ErrorCode, message: string): MillraceError {
  return new MillraceError({ code, kind: "fatal", message });
}

/** A process, as the server knows it. */
export interface Client {
  readonly process: SimulatedProcess;
  readonly server: Server;
  readonly connection: Connection;
}

export function clientOf(process: SimulatedProcess, server: Server): Client {
  return { process, server, connection: new Connection(process, server.weather, "source") };
}

export function postgresLikeSource(process: SimulatedProcess, server: Server): Source {
  return sourceOver(clientOf(process, server), () => {
    if (server.slot === null) throw lost("MR2010", "the slot is gone");
  });
}

/** `expectLog` throws where the log can't be read from there. */
export function sourceOver(client: Client, expectLog: (from: Position) => void): Source {
  const { process, server } = client;
  return {
    kind: "simulated",
    database: "simulated",
    positions: { format: String, parse: BigInt, distance: distanceInBytes },
    log: changeLog(client, expectLog),
    admin: logAdmin(client),
    catalog: catalog(client),
    rows: rowReads(client),
    watermarks: watermarks(client),
    close: async () => {
      if (process.isAlive && server.reader === process) server.reader = null;
    },
  };
}

function changeLog({ process, server, connection }: Client, expectLog: (from: Position) => void): ChangeLog {
  return {
    stream: (from, options, signal) =>
      connection.call(
        "stream",
        () => {
          if (options.temporary && server.refusesSecond)
            throw new MillraceError({
              code: "MR2999",
              kind: "retryable",
              reason: "one-stream",
              message: "no second stream can be had",
            });
          expectLog(from);
          if (!options.temporary) {
            expectFree(server, process);
            server.reader = process;
            process.onDeath(() => {
              // The server notices later that nobody is there any more.
              process.scheduler.after(20, () => {
                if (server.reader === process) server.reader = null;
              });
            });
          }
          return new Stream({ server, process, from, options });
        },
        signal,
      ),
    tip: (signal) => connection.call("tip", () => server.database.end, signal),
    earliest: (signal) => connection.call("earliest", () => server.slot?.confirmed ?? null, signal),
  };
}

function expectFree({ reader }: Server, process: SimulatedProcess): void {
  if (reader !== null && reader !== process)
    throw new MillraceError({ code: "MR2012", kind: "retryable", message: "another process reads the log" });
}

function logAdmin(client: Client): LogAdmin {
  const { process, server, connection } = client;
  return {
    losses: new Set<ErrorCode>(["MR2010", "MR2013"]),
    expectFree: (_identity, signal) => connection.call("ask who reads", () => expectFree(server, process), signal),
    create: ({ epoch, wantCopy }, signal) =>
      connection.call(
        "create",
        () => {
          // A slot that is in use can't be dropped.
          expectFree(server, process);
          const { database } = server;
          const slot: Slot = { id: `slot ${++server.slotCount}`, confirmed: database.end };
          server.slot = slot;
          forget(server);
          const position = { epoch, commit: database.end, index: 0 };
          return { identity: identityOf(server), position, copy: wantCopy ? copyOf(client, epoch) : null };
        },
        signal,
      ),
    resume: (identity, held, signal) =>
      connection.call(
        "resume",
        () => {
          const { database, slot } = server;
          const now = identityOf(server);
          if (identity["timeline"] !== now["timeline"]) throw lost("MR2013", "the source is another server");
          if (slot === null || identity["slot"] !== slot.id) throw lost("MR2010", "the slot is gone");
          if (held.from.commit < slot.confirmed) throw lost("MR2010", "the slot has gone past the place");
          if (held.reached.commit > database.end) throw lost("MR2010", "the log ends before the place");
          return now;
        },
        signal,
      ),
    remove: async () => {
      server.slot = null;
    },
    health: async (signal) => {
      const tip = await connection.call("tip", () => server.database.end, signal);
      return { tip, retainedBytes: 0, safeBytes: null, warnings: [] };
    },
  };
}

export function copyOf(client: Client, epoch: number): FirstCopy {
  const { database } = client.server;
  const frozen = new Map(database.tables.map((table) => [idOf(table), [...database.committed(table).values()]]));
  return {
    tables: database.tables.map(({ shape }) => shape),
    generations: generationsOf(database),
    read: (table, signal) => copied(client, { table, rows: frozen.get(table.id) ?? [], epoch }, signal),
    close: async () => undefined,
  };
}

interface Frozen {
  readonly table: TableVersion;
  readonly rows: readonly Row[];
  readonly epoch: number;
}

/** What a block of the first copy counts as: a few make a sink full. */
const COPIED_BYTES = 6 * 1024 * 1024;

async function* copied(
  { process, server: { chunkRows }, connection }: Client,
  { table, rows, epoch }: Frozen,
  signal: AbortSignal,
): AsyncGenerator<Block> {
  for (let at = 0; at < rows.length; at += chunkRows) {
    const answer = await connection.call("copy", () => rows.slice(at, at + chunkRows), signal);
    const block = rowsBlock(process, table, answer, epoch);
    block.byteCount = COPIED_BYTES;
    yield block;
  }
}

function catalog({ server, connection }: Client): Catalog {
  const { database } = server;
  return {
    tables: (signal) =>
      connection.call(
        "tables",
        () => ({
          tables: database.tables.map(({ shape }) => shape),
          refused: [],
          generations: generationsOf(database),
        }),
        signal,
      ),
    publish: async () => undefined,
  };
}

function rowReads({ process, server, connection }: Client): RowReads {
  const { database } = server;
  const read = (table: TableVersion, signal: AbortSignal, isWanted: (row: Row) => boolean) =>
    connection.call(
      "read",
      () => ({ rows: [...tableOf(database, table).rows.values()].filter(isWanted), ...database.snapshot() }),
      signal,
    );
  /** Made here, as an answer that was lost holds no memory. */
  const blockOf = (table: TableVersion, rows: readonly Row[]): Block | null =>
    rows.length === 0 ? null : rowsBlock(process, table, rows, 1);
  return {
    readRange: async (table, { after, scanRowCountMax }, signal) => {
      const { chunkRows } = server;
      const { rows, ...seen } = await read(table, signal, (row) => {
        return (after === null || Number(row[0]) > Number(after[0])) && scanRowCountMax !== 0;
      });
      const sorted = rows.toSorted((a, b) => Number(a[0]) - Number(b[0]));
      const chunk = sorted.slice(0, chunkRows);
      const last = sorted.length > chunkRows ? [chunk.at(-1)![0]!] : null;
      return { block: blockOf(table, chunk), last, ...seen };
    },
    readKeys: async (table, keys, signal) => {
      const wanted = new Set(keys.map(([key]) => key));
      const { rows, ...seen } = await read(table, signal, (row) => wanted.has(row[0]!));
      return { block: blockOf(table, rows), last: null, ...seen };
    },
  };
}

function watermarks({ process, server, connection }: Client): Watermarks {
  const { database } = server;
  return {
    markPrefix: MARK_PREFIX,
    mark: (content, signal) => connection.call("mark", () => void database.mark(content), signal),
    renew: (signal) => connection.call("renew", () => database.renew(), signal),
    settle: async (_onWait, signal) => {
      const open = new Set(await connection.call("settle", () => database.openXids, signal));
      while (database.openXids.some((xid) => open.has(xid))) await process.sleep(10, signal);
    },
    visibility: (signal) =>
      connection.call("visibility", () => ({ ...database.snapshot(), committing: database.committingXids }), signal),
  };
}

function identityOf({ timeline, slot }: Server): LogIdentity {
  return { timeline, slot: slot?.id ?? "" };
}

export function idOf(table: Table): string {
  return table.shape.id;
}

export function generationsOf(database: Database): ReadonlyMap<string, string> {
  return new Map(database.tables.map((table) => [idOf(table), `${table.shape.relation}.${table.generation}`]));
}

function tableOf(database: Database, table: TableVersion): Table {
  const found = database.tables.find((one) => idOf(one) === table.id);
  if (found === undefined || found.shape.fingerprint !== table.fingerprint)
    throw new MillraceError({ code: "MR2998", kind: "retryable", message: `table ${table.id} has another shape` });
  return found;
}

function rowsBlock({ blocks }: SimulatedProcess, table: TableVersion, rows: readonly Row[], epoch: number): Block {
  const changes = rows.map((after): Change => ({ table, op: "r", after, commit: 0n, version: baseVersion(epoch) }));
  return blocks.of(changes, { epoch, until: { epoch, commit: 0n, index: 0 } });
}
