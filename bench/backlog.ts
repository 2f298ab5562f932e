/**
 * A backlog of changes in a source, and how long the daemon takes to bring it to a sink. For benchmarks whose peer is a
 * bare load of the same rows into the same kind of server.
 */
import type { Client } from "pg";
import { parseLsn } from "../connectors/postgres/source/wire/lsn.ts";
import { postgres } from "../scripts/services/servers/postgres/postgres.ts";
import { connected } from "./clients.ts";
import { cpuSecondsOf, MeasuredDaemon } from "./daemon.ts";
import { insertOrders, ORDERS, updateOrders } from "./orders.ts";
import { SETTINGS, Slot, until } from "./slot.ts";

const ROWS_PER_TRANSACTION = 100;

export type Kind = "inserts" | "updates";

/** The rows that remain after a piece of work: a bare load has to write these. */
export interface Work {
  readonly kind: Kind;
  readonly firstId: number;
  readonly rowCount: number;
}

export interface Replayed {
  readonly seconds: number;
  readonly walsenderSeconds: number;
  readonly daemonSeconds: number;
  /** Of the target's server; 0 if there is none. */
  readonly serverSeconds: number;
  readonly memoryMiB: number;
}

export class Backlog implements AsyncDisposable {
  readonly source: Client;
  readonly daemon: MeasuredDaemon;
  /** A position in the log between the last work and its mark. */
  markedAfter = 0n;
  readonly #server: AsyncDisposable;

  private constructor(server: AsyncDisposable, source: Client, daemon: MeasuredDaemon) {
    this.#server = server;
    this.source = source;
    this.daemon = daemon;
  }

  /** Creates source and daemon, and lets the daemon create its empty table in the sink. `sinkOf` gets the daemon's folder. */
  static async create(sinkOf: (folder: string) => object): Promise<Backlog> {
    const server = await postgres.start({ own: true, settings: SETTINGS });
    const source = await connected(server.url);
    await source.query(`${ORDERS}; create table mark (name text primary key)`);
    const daemon = new MeasuredDaemon((folder) => ({
      name: "bench",
      source: { kind: "postgres", url: server.url },
      sinks: { target: sinkOf(folder) },
    }));
    await daemon.catchUp();
    return new Backlog(server, source, daemon);
  }

  /** Writes the changes, and the mark after them, while no daemon runs. */
  async write({ kind, firstId, rowCount }: Work, mark: string): Promise<void> {
    if (kind === "inserts") await insertOrders(this.source, firstId, rowCount, ROWS_PER_TRANSACTION);
    else await updateOrders(this.source, rowCount, rowCount, ROWS_PER_TRANSACTION);
    const { rows } = await this.source.query<{ lsn: string }>("select pg_current_wal_insert_lsn()::text as lsn");
    this.markedAfter = parseLsn(rows[0]!.lsn);
    await this.source.query("insert into mark values ($1)", [mark]);
    await this.source.query("checkpoint");
  }

  /** From the moment the server streams until the target shows the mark. */
  async replay(isThere: () => Promise<boolean>, serverPid?: number): Promise<Replayed> {
    this.daemon.start();
    const slot = new Slot(this.source, "millrace_bench");
    const walsender = await slot.streaming();
    const before = this.daemon.usage().cpuSeconds;
    const serverBefore = serverPid === undefined ? 0 : cpuSecondsOf(serverPid);
    const startedMs = performance.now();
    await until(isThere);
    const seconds = (performance.now() - startedMs) / 1000;
    const usage = this.daemon.usage();
    const serverSeconds = serverPid === undefined ? 0 : cpuSecondsOf(serverPid) - serverBefore;
    const walsenderSeconds = cpuSecondsOf(walsender);
    await slot.settled();
    await this.daemon.stop();
    await slot.free();
    const daemonSeconds = usage.cpuSeconds - before;
    return { seconds, walsenderSeconds, daemonSeconds, serverSeconds, memoryMiB: usage.memoryMiB };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.daemon[Symbol.asyncDispose]();
    await this.source.end();
    await this.#server[Symbol.asyncDispose]();
  }
}
