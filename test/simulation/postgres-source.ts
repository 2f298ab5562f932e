/** A source that keeps its log as Postgres does: a slot, whose confirmed place only moves on, and a stream that begins there. */
import type { Block } from "../../src/core/block.ts";
import { type ErrorCode, MillraceError } from "../../src/core/errors.ts";
import type { Position } from "../../src/core/position.ts";
import type { TableVersion } from "../../src/core/schema.ts";
import {
  type CapturedTables,
  type ChangeStream,
  type Chunk,
  type CreatedLog,
  type CreateRequest,
  type FirstCopy,
  type HeldPositions,
  type KeyText,
  type LogHealth,
  type LogIdentity,
  type MadeObject,
  SecondStreamRefused,
  type Source,
  type StreamOptions,
  type TableShape,
  type Visibility,
} from "../../src/core/source.ts";
import { baseVersion } from "../../src/core/version.ts";
import { blockOf, type Change } from "../support/blocks.ts";
import type { Database, LogEntry, Row, Table } from "./database.ts";
import { Connection, type Weather } from "./network.ts";
import { aborted, type SimulatedProcess } from "./scheduler.ts";

/** What the server keeps for the daemon. */
export interface Slot {
  readonly id: string;
  /** What lies before it is gone. */
  confirmed: bigint;
}

/** The server: what outlives every process. */
export interface Server {
  readonly database: Database;
  readonly weather: Weather;
  /** Names the history of the log. */
  timeline: string;
  slot: Slot | null;
  slotCount: number;
  /** Who reads the log by the slot. */
  reader: SimulatedProcess | null;
  /** None is given while true. */
  refusesSecond: boolean;
  chunkRows: number;
  /** Told of each place that the daemon gives up, before it is. */
  onAcknowledged: (commit: bigint, epoch: number) => void;
  /** It was put back to what it was, and nobody has dealt with that yet. */
  isRestored: boolean;
}

const CHANGES_PER_BLOCK_MAX = 6;
const MARK_PREFIX = "m";

function lost(code: ErrorCode, message: string): MillraceError {
  return new MillraceError({ code, kind: "fatal", message });
}

export class PostgresLikeSource implements Source {
  readonly kind = "simulated";
  readonly database = "simulated";
  readonly losses = new Set<ErrorCode>(["MR2015", "MR2013"]);
  readonly markPrefix = MARK_PREFIX;
  readonly #process: SimulatedProcess;
  readonly #server: Server;
  readonly #connection: Connection;

  constructor(process: SimulatedProcess, server: Server) {
    this.#process = process;
    this.#server = server;
    this.#connection = new Connection(process, server.weather, "source");
  }

  formatPosition(commit: bigint): string {
    return String(commit);
  }

  parsePosition(text: string): bigint {
    return BigInt(text);
  }

  async create(request: CreateRequest, signal: AbortSignal): Promise<CreatedLog> {
    return await this.#connection.call(
      "create",
      () => {
        const server = this.#server;
        const { database } = server;
        const slot: Slot = { id: `slot ${++server.slotCount}`, confirmed: database.end };
        server.slot = slot;
        forget(server);
        const position = { epoch: request.epoch, commit: database.end, index: 0 };
        return { identity: identityOf(server), position, copy: request.wantCopy ? this.#copy(request.epoch) : null };
      },
      signal,
    );
  }

  #copy(epoch: number): FirstCopy {
    const { database, chunkRows } = this.#server;
    const frozen = new Map(database.tables.map((table) => [idOf(table), [...database.committed(table).values()]]));
    const connection = this.#connection;
    return {
      tables: database.tables.map(({ shape }) => shape),
      generations: generationsOf(database),
      async *read(table: TableVersion, signal: AbortSignal) {
        const rows = frozen.get(table.id) ?? [];
        for (let at = 0; at < rows.length; at += chunkRows) {
          yield await connection.call("copy", () => rowsBlock(table, rows.slice(at, at + chunkRows), epoch), signal);
        }
      },
      close: async () => undefined,
    };
  }

  async resume(identity: LogIdentity, held: HeldPositions, signal: AbortSignal): Promise<LogIdentity> {
    return await this.#connection.call(
      "resume",
      () => {
        const { database, slot } = this.#server;
        const now = identityOf(this.#server);
        if (identity["timeline"] !== now["timeline"]) throw lost("MR2013", "the source is another server");
        if (slot === null || identity["slot"] !== slot.id) throw lost("MR2015", "the slot is gone");
        if (held.from.commit < slot.confirmed) throw lost("MR2015", "the slot has gone past the place");
        if (held.reached.commit > database.end) throw lost("MR2015", "the log ends before the place");
        return now;
      },
      signal,
    );
  }

  async expectFree(_identity: LogIdentity | null, signal: AbortSignal): Promise<void> {
    await this.#connection.call(
      "ask who reads",
      () => {
        const { reader } = this.#server;
        if (reader !== null && reader !== this.#process)
          throw new MillraceError({ code: "MR2012", kind: "retryable", message: "another process reads the log" });
      },
      signal,
    );
  }

  async stream(from: Position, options: StreamOptions, signal: AbortSignal): Promise<ChangeStream> {
    return await this.#connection.call(
      "stream",
      () => {
        const server = this.#server;
        if (options.temporary && server.refusesSecond)
          throw new SecondStreamRefused({ code: "MR2999", kind: "retryable", message: "no second stream can be had" });
        if (server.slot === null) throw lost("MR2015", "the slot is gone");
        if (!options.temporary) {
          if (server.reader !== null && server.reader !== this.#process)
            throw new MillraceError({ code: "MR2012", kind: "retryable", message: "another process reads the log" });
          server.reader = this.#process;
          this.#process.onDeath(() => {
            // The server notices later that nobody is there any more.
            this.#process.scheduler.after(20, () => {
              if (server.reader === this.#process) server.reader = null;
            });
          });
        }
        return new Stream({ server, process: this.#process, from, options });
      },
      signal,
    );
  }

  async tables(signal: AbortSignal): Promise<CapturedTables> {
    return await this.#connection.call(
      "tables",
      () => {
        const { database } = this.#server;
        return { tables: database.tables.map(({ shape }) => shape), refused: [], generations: generationsOf(database) };
      },
      signal,
    );
  }

  async publish(): Promise<void> {}

  async settle(_onWait: unknown, signal: AbortSignal): Promise<void> {
    const { database } = this.#server;
    const open = new Set(await this.#connection.call("settle", () => database.openXids, signal));
    while (database.openXids.some((xid) => open.has(xid))) await this.#process.sleep(10, signal);
  }

  async visibility(signal: AbortSignal): Promise<Visibility> {
    const { database } = this.#server;
    return await this.#connection.call(
      "visibility",
      () => ({ ...database.snapshot(), committing: database.committingXids }),
      signal,
    );
  }

  async mark(content: string, signal: AbortSignal): Promise<void> {
    await this.#connection.call("mark", () => void this.#server.database.mark(content), signal);
  }

  async renew(signal: AbortSignal): Promise<bigint> {
    return await this.#connection.call("renew", () => this.#server.database.renew(), signal);
  }

  async readRange(
    table: TableVersion,
    after: KeyText | null,
    where: string | null,
    signal: AbortSignal,
  ): Promise<Chunk> {
    return await this.#connection.call(
      "read",
      () => {
        const { database, chunkRows } = this.#server;
        const found = tableOf(database, table);
        const sees = database.snapshot().sees;
        const rest = [...found.rows.values()]
          .filter((row) => after === null || Number(row[0]) > Number(after[0]))
          .filter(() => where === null || !where.includes("AND 1 = 0"))
          .toSorted((a, b) => Number(a[0]) - Number(b[0]));
        const rows = rest.slice(0, chunkRows);
        const last = rest.length > chunkRows ? [rows.at(-1)![0]!] : null;
        return { block: rows.length === 0 ? null : rowsBlock(table, rows, 1), last, sees };
      },
      signal,
    );
  }

  async readKeys(table: TableVersion, keys: readonly KeyText[], signal: AbortSignal): Promise<Chunk> {
    return await this.#connection.call(
      "read keys",
      () => {
        const { database } = this.#server;
        const found = tableOf(database, table);
        const rows = keys.flatMap(([key]) => {
          const row = found.rows.get(key!);
          return row === undefined ? [] : [row];
        });
        return {
          block: rows.length === 0 ? null : rowsBlock(table, rows, 1),
          last: null,
          sees: database.snapshot().sees,
        };
      },
      signal,
    );
  }

  async tip(signal: AbortSignal): Promise<bigint> {
    return await this.#connection.call("tip", () => this.#server.database.end, signal);
  }

  async made(): Promise<readonly MadeObject[]> {
    return [];
  }

  async remove(): Promise<void> {
    this.#server.slot = null;
  }

  async earliest(signal: AbortSignal): Promise<bigint | null> {
    return await this.#connection.call("earliest", () => this.#server.slot?.confirmed ?? null, signal);
  }

  async health(signal: AbortSignal): Promise<LogHealth> {
    const tip = await this.tip(signal);
    return { tip, retainedBytes: 0, safeBytes: null, warnings: [] };
  }

  async close(): Promise<void> {
    if (this.#process.isAlive && this.#server.reader === this.#process) this.#server.reader = null;
  }
}

interface StreamParts {
  readonly server: Server;
  readonly process: SimulatedProcess;
  readonly from: Position;
  readonly options: StreamOptions;
}

class Stream implements ChangeStream {
  readonly #parts: StreamParts;
  #position: Position;
  /** By the shape that the log has it under. */
  readonly #versions = new Map<TableShape, TableVersion>();
  #isBroken = false;
  readonly #slot: Slot | null;

  constructor(parts: StreamParts) {
    this.#parts = parts;
    const { from, server, options } = parts;
    this.#slot = server.slot;
    // Postgres begins at the slot's place where it is asked for an earlier one, without a word.
    const confirmed = options.temporary ? 0n : server.slot!.confirmed;
    this.#position = from.commit < confirmed ? { ...from, commit: confirmed, index: 0 } : from;
  }

  async next(signal: AbortSignal): Promise<Block> {
    for (;;) {
      const { process, server } = this.#parts;
      const { random } = process.scheduler;
      await process.sleep(random.next() * server.weather.slowestMs, signal);
      const { failures, isDown } = server.weather;
      if (isDown || this.#isBroken || server.slot !== this.#slot || (failures > 0 && random.next() < failures)) {
        this.#isBroken = true;
        throw new MillraceError({ code: "MR2999", kind: "retryable", message: "the stream broke" });
      }
      const block = await this.#block();
      if (block !== null) return block;
      await this.#appended(signal);
    }
  }

  async #block(): Promise<Block | null> {
    const { server, process, options } = this.#parts;
    const { log } = server.database;
    const from = this.#position;
    let at = firstFrom(log, from.commit);
    if (at === log.length) return null;
    const left = 1 + process.scheduler.random.below(CHANGES_PER_BLOCK_MAX);
    const changes: Change[] = [];
    const messages: { at: number; prefix: string; content: Buffer; position: bigint; transactional: boolean }[] = [];
    let until = from;
    for (; at < log.length; at++) {
      const entry = log[at]!;
      if (changes.length + messages.length >= left) break;
      const begin = entry.commit === from.commit ? from.index : 0;
      let index = begin;
      for (; index < entry.changes.length && changes.length < left; index++) {
        const { shape, ...change } = entry.changes[index]!;
        let table = this.#versions.get(shape);
        if (table === undefined) {
          table = await options.resolve(shape, { epoch: from.epoch, commit: entry.commit, index });
          this.#versions.set(shape, table);
        }
        changes.push({ ...change, table, commit: entry.commit, xid: entry.xid, index });
      }
      if (index < entry.changes.length) {
        until = { epoch: from.epoch, commit: entry.commit, index };
        break;
      }
      for (const shape of entry.shapes) {
        if (this.#versions.has(shape)) continue;
        const place = { epoch: from.epoch, commit: entry.commit, index: 0 };
        this.#versions.set(shape, await options.resolve(shape, place));
      }
      if (entry.message !== null) {
        messages.push({
          at: changes.length,
          prefix: MARK_PREFIX,
          content: Buffer.from(entry.message),
          position: entry.commit,
          transactional: true,
        });
      }
      until = { epoch: from.epoch, commit: entry.commit + 1n, index: 0 };
    }
    this.#position = until;
    return blockOf(changes, { epoch: from.epoch, until, messages });
  }

  async #appended(signal: AbortSignal): Promise<void> {
    const { process, server } = this.#parts;
    await new Promise<void>((resolve, reject) => {
      if (signal.aborted) return reject(aborted(signal));
      const end = (settle: () => void): void => {
        signal.removeEventListener("abort", onAbort);
        forgetListener();
        settle();
      };
      const onAbort = (): void => end(() => reject(aborted(signal)));
      const forgetListener = server.database.onAppend(() => end(() => void process.after(0, resolve)));
      signal.addEventListener("abort", onAbort, { once: true });
      process.onDeath(() => forgetListener());
    });
  }

  acknowledge(commit: bigint): void {
    const { process, server, options } = this.#parts;
    if (options.temporary || !process.isAlive || this.#isBroken) return;
    process.after(1, () => {
      const { slot } = server;
      if (this.#isBroken || slot === null || commit <= slot.confirmed) return;
      server.onAcknowledged(commit, this.#parts.from.epoch);
      slot.confirmed = commit;
      forget(server);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { process, server, options } = this.#parts;
    this.#isBroken = true;
    if (!options.temporary && process.isAlive && server.reader === process) server.reader = null;
  }
}

/** The log before the slot's place is thrown away. */
function forget({ database, slot }: Server): void {
  if (slot === null) return;
  const kept = firstFrom(database.log, slot.confirmed);
  if (kept > 0) database.log = database.log.slice(kept);
}

function firstFrom(log: readonly LogEntry[], commit: bigint): number {
  let low = 0;
  let high = log.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (log[middle]!.commit < commit) low = middle + 1;
    else high = middle;
  }
  return low;
}

function identityOf({ timeline, slot }: Server): LogIdentity {
  return { timeline, slot: slot?.id ?? "" };
}

export function idOf(table: Table): string {
  return table.shape.id;
}

function generationsOf(database: Database): ReadonlyMap<string, string> {
  return new Map(database.tables.map((table) => [idOf(table), `${table.shape.relation}.${table.generation}`]));
}

function tableOf(database: Database, table: TableVersion): Table {
  const found = database.tables.find((one) => idOf(one) === table.id);
  if (found === undefined || found.shape.fingerprint !== table.fingerprint)
    throw new MillraceError({ code: "MR2998", kind: "retryable", message: `table ${table.id} has another shape` });
  return found;
}

function rowsBlock(table: TableVersion, rows: readonly Row[], epoch: number): Block {
  const changes = rows.map((after): Change => ({ table, op: "r", after, commit: 0n, version: baseVersion(epoch) }));
  return blockOf(changes, { epoch, until: { epoch, commit: 0n, index: 0 } });
}
