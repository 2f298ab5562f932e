/** A source that keeps its log as Postgres does: a slot, whose confirmed place only moves on, and a stream that begins there. */
import type { Block } from "../../src/core/model/block.ts";
import { type ErrorCode, MillraceError } from "../../src/core/errors.ts";
import type { Position } from "../../src/core/model/position.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
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
  type Visibility,
} from "../../src/core/contracts/source.ts";
import { baseVersion } from "../../src/core/model/version.ts";
import type { Change } from "../support/blocks.ts";
import type { Database, Row, Table } from "./database.ts";
import { Connection } from "./network.ts";
import { forget, type Server, type Slot } from "./server.ts";
import { MARK_PREFIX, Stream } from "./postgres-stream.ts";
import type { SimulatedProcess } from "./scheduler.ts";

export function lost(code: ErrorCode, message: string): MillraceError {
  return new MillraceError({ code, kind: "fatal", message });
}

export class PostgresLikeSource implements Source {
  readonly kind = "simulated";
  readonly database = "simulated";
  readonly losses: ReadonlySet<ErrorCode> = new Set<ErrorCode>(["MR2015", "MR2013"]);
  readonly markPrefix = MARK_PREFIX;
  protected readonly process: SimulatedProcess;
  protected readonly server: Server;
  protected readonly connection: Connection;

  constructor(process: SimulatedProcess, server: Server) {
    this.process = process;
    this.server = server;
    this.connection = new Connection(process, server.weather, "source");
  }

  formatPosition(commit: bigint): string {
    return String(commit);
  }

  parsePosition(text: string): bigint {
    return BigInt(text);
  }

  async create(request: CreateRequest, signal: AbortSignal): Promise<CreatedLog> {
    return await this.connection.call(
      "create",
      () => {
        const server = this.server;
        const { database } = server;
        const slot: Slot = { id: `slot ${++server.slotCount}`, confirmed: database.end };
        server.slot = slot;
        forget(server);
        const position = { epoch: request.epoch, commit: database.end, index: 0 };
        return { identity: identityOf(server), position, copy: request.wantCopy ? this.copy(request.epoch) : null };
      },
      signal,
    );
  }

  protected copy(epoch: number): FirstCopy {
    const { database, chunkRows } = this.server;
    const frozen = new Map(database.tables.map((table) => [idOf(table), [...database.committed(table).values()]]));
    const { connection, process } = this;
    return {
      tables: database.tables.map(({ shape }) => shape),
      generations: generationsOf(database),
      async *read(table: TableVersion, signal: AbortSignal) {
        const rows = frozen.get(table.id) ?? [];
        for (let at = 0; at < rows.length; at += chunkRows) {
          const answer = await connection.call("copy", () => rows.slice(at, at + chunkRows), signal);
          yield rowsBlock(process, table, answer, epoch);
        }
      },
      close: async () => undefined,
    };
  }

  async resume(identity: LogIdentity, held: HeldPositions, signal: AbortSignal): Promise<LogIdentity> {
    return await this.connection.call(
      "resume",
      () => {
        const { database, slot } = this.server;
        const now = identityOf(this.server);
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
    await this.connection.call(
      "ask who reads",
      () => {
        const { reader } = this.server;
        if (reader !== null && reader !== this.process)
          throw new MillraceError({ code: "MR2012", kind: "retryable", message: "another process reads the log" });
      },
      signal,
    );
  }

  /** Throws where the log can't be read from there. */
  protected expectLog(_from: Position): void {
    if (this.server.slot === null) throw lost("MR2015", "the slot is gone");
  }

  async stream(from: Position, options: StreamOptions, signal: AbortSignal): Promise<ChangeStream> {
    return await this.connection.call(
      "stream",
      () => {
        const server = this.server;
        if (options.temporary && server.refusesSecond)
          throw new SecondStreamRefused({ code: "MR2999", kind: "retryable", message: "no second stream can be had" });
        this.expectLog(from);
        if (!options.temporary) {
          if (server.reader !== null && server.reader !== this.process)
            throw new MillraceError({ code: "MR2012", kind: "retryable", message: "another process reads the log" });
          server.reader = this.process;
          this.process.onDeath(() => {
            // The server notices later that nobody is there any more.
            this.process.scheduler.after(20, () => {
              if (server.reader === this.process) server.reader = null;
            });
          });
        }
        return new Stream({ server, process: this.process, from, options });
      },
      signal,
    );
  }

  async tables(signal: AbortSignal): Promise<CapturedTables> {
    return await this.connection.call(
      "tables",
      () => {
        const { database } = this.server;
        return { tables: database.tables.map(({ shape }) => shape), refused: [], generations: generationsOf(database) };
      },
      signal,
    );
  }

  async publish(): Promise<void> {}

  async settle(_onWait: unknown, signal: AbortSignal): Promise<void> {
    const { database } = this.server;
    const open = new Set(await this.connection.call("settle", () => database.openXids, signal));
    while (database.openXids.some((xid) => open.has(xid))) await this.process.sleep(10, signal);
  }

  async visibility(signal: AbortSignal): Promise<Visibility> {
    const { database } = this.server;
    return await this.connection.call(
      "visibility",
      () => ({ ...database.snapshot(), committing: database.committingXids }),
      signal,
    );
  }

  async mark(content: string, signal: AbortSignal): Promise<void> {
    await this.connection.call("mark", () => void this.server.database.mark(content), signal);
  }

  async renew(signal: AbortSignal): Promise<bigint> {
    return await this.connection.call("renew", () => this.server.database.renew(), signal);
  }

  async readRange(
    table: TableVersion,
    after: KeyText | null,
    where: string | null,
    signal: AbortSignal,
  ): Promise<Chunk> {
    const { chunkRows } = this.server;
    const { rows, sees } = await this.#read(table, signal, (row) => {
      return (after === null || Number(row[0]) > Number(after[0])) && (where === null || !where.includes("AND 1 = 0"));
    });
    const sorted = rows.toSorted((a, b) => Number(a[0]) - Number(b[0]));
    const chunk = sorted.slice(0, chunkRows);
    const last = sorted.length > chunkRows ? [chunk.at(-1)![0]!] : null;
    return { block: this.#blockOf(table, chunk), last, sees };
  }

  async readKeys(table: TableVersion, keys: readonly KeyText[], signal: AbortSignal): Promise<Chunk> {
    const wanted = new Set(keys.map(([key]) => key));
    const { rows, sees } = await this.#read(table, signal, (row) => wanted.has(row[0]!));
    return { block: this.#blockOf(table, rows), last: null, sees };
  }

  async #read(table: TableVersion, signal: AbortSignal, isWanted: (row: Row) => boolean) {
    const { database } = this.server;
    return await this.connection.call(
      "read",
      () => ({ rows: [...tableOf(database, table).rows.values()].filter(isWanted), sees: database.snapshot().sees }),
      signal,
    );
  }

  /** Made here, as an answer that was lost holds no memory. */
  #blockOf(table: TableVersion, rows: readonly Row[]): Block | null {
    return rows.length === 0 ? null : rowsBlock(this.process, table, rows, 1);
  }

  async tip(signal: AbortSignal): Promise<bigint> {
    return await this.connection.call("tip", () => this.server.database.end, signal);
  }

  async made(): Promise<readonly MadeObject[]> {
    return [];
  }

  async remove(): Promise<void> {
    this.server.slot = null;
  }

  async earliest(signal: AbortSignal): Promise<bigint | null> {
    return await this.connection.call("earliest", () => this.server.slot?.confirmed ?? null, signal);
  }

  async health(signal: AbortSignal): Promise<LogHealth> {
    const tip = await this.tip(signal);
    return { tip, retainedBytes: 0, safeBytes: null, warnings: [] };
  }

  async close(): Promise<void> {
    if (this.process.isAlive && this.server.reader === this.process) this.server.reader = null;
  }
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
