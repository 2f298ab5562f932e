/** A primary and its standby behind one address. */
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "pg";
import type { RunningPostgres } from "../../../scripts/services/servers/postgres/postgres.ts";
import { tcpProxy, type TcpProxy } from "../network/proxy.ts";
import type { FreshDatabase, PostgresAddress } from "../run/fresh-database.ts";
import { ownPostgres } from "../run/services.ts";
import { eventually } from "../run/waiting.ts";

const READY_WITHIN_MS = 90_000;
const LOG_RUNNING_MS = 200;

export interface PairOptions {
  /** The standby keeps the failover slots. Default: true. */
  readonly syncSlots?: boolean;
  /** The primary sends nothing to logical readers that the standby does not have. Default: true. */
  readonly waits?: boolean;
}

/** A primary and its standby behind one address, which leads to the primary until it is told otherwise. */
export class FailoverPair implements AsyncDisposable, PostgresAddress {
  readonly #options: PairOptions;
  /** Of the common address. */
  readonly proxy: TcpProxy;
  readonly #servers: RunningPostgres[];
  primary: RunningPostgres;
  #standby: RunningPostgres | null = null;
  readonly url: string;
  readonly socketDir = undefined;

  private constructor(primary: RunningPostgres, proxy: TcpProxy, options: PairOptions) {
    this.primary = primary;
    this.#servers = [primary];
    this.proxy = proxy;
    this.#options = options;
    this.url = proxy.url(primary.url);
  }

  /** The primary alone; `addStandby` follows. */
  static async start(options: PairOptions = {}): Promise<FailoverPair> {
    const primary = await ownPostgres();
    return new FailoverPair(primary, await tcpProxy(primary.url), options);
  }

  get standby(): RunningPostgres {
    if (this.#standby === null) throw new Error("there is no standby");
    return this.#standby;
  }

  async addStandby(): Promise<void> {
    const { syncSlots = true, waits = true } = this.#options;
    const slotName = `standby_${this.#servers.length}`;
    // The default is ten seconds: so long the primary would know nothing of what the standby needs.
    const settings = { wal_receiver_status_interval: "1s" };
    this.#standby = await ownPostgres({ settings, standbyOf: { primary: this.primary, slotName, syncSlots } });
    this.#servers.push(this.#standby);
    if (!waits) return;
    await query(this.primary.url, `alter system set synchronized_standby_slots = '${slotName}'`);
    await query(this.primary.url, "select pg_reload_conf()");
  }

  /** What the standby has of that slot: `ready` outlives a promotion. */
  async slotState(slot: string): Promise<"none" | "temporary" | "ready"> {
    const [row] = await query(this.standby.url, "select temporary from pg_replication_slots where slot_name = $1", [
      slot,
    ]);
    if (row === undefined) return "none";
    return row["temporary"] === true ? "temporary" : "ready";
  }

  async untilSlot(slot: string, state: "temporary" | "ready"): Promise<void> {
    const isThere = async () => (await this.slotState(slot)) === state;
    await eventually(isThere, { withinMs: READY_WITHIN_MS, everyMs: 200 });
  }

  /** The address leads to the standby, whether it is promoted or not. */
  async losePrimary(): Promise<void> {
    await this.primary.kill();
    this.proxy.redirect(this.standby.url);
    this.proxy.cut();
  }

  /** The same with a primary that lives on. */
  async leavePrimary(): Promise<void> {
    this.proxy.redirect(this.standby.url);
    this.proxy.cut();
  }

  async checkpoint(): Promise<void> {
    await query(this.primary.url, "checkpoint");
  }

  /** The standby shows what was committed before the call. */
  async replayed(): Promise<void> {
    const [end] = await query(this.primary.url, "select pg_current_wal_flush_lsn()::text as lsn");
    const sql = "select pg_last_wal_replay_lsn() >= $1::pg_lsn as there";
    const isThere = async () => (await query(this.standby.url, sql, [end?.["lsn"]]))[0]?.["there"] === true;
    await eventually(isThere, { everyMs: 5 });
  }

  /**
   * The primary logs which transactions run, over and over until this is disposed of: a standby needs three such records to finish
   * a slot, and by itself the primary writes one in 15 s.
   */
  logRunning(): AsyncDisposable {
    const ending = new AbortController();
    const { url } = this.primary;
    const logging = (async () => {
      while (!ending.signal.aborted) {
        await query(url, "select pg_log_standby_snapshot()").catch(() => undefined);
        await sleep(LOG_RUNNING_MS, undefined, { signal: ending.signal }).catch(() => undefined);
      }
    })();
    return {
      [Symbol.asyncDispose]: async () => {
        ending.abort();
        await logging;
      },
    };
  }

  async promote(): Promise<void> {
    await query(this.standby.url, "select pg_promote()");
    this.primary = this.standby;
    this.#standby = null;
  }

  /** The same database at a server of its own, past the common address. */
  static urlAt(server: RunningPostgres, database: FreshDatabase): string {
    const url = new URL(database.url);
    url.port = String(server.port);
    return url.href;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.proxy[Symbol.asyncDispose]();
    for (const server of this.#servers.toReversed()) await server[Symbol.asyncDispose]();
  }
}

async function query(url: string, sql: string, values: unknown[] = []): Promise<Record<string, unknown>[]> {
  const client = new Client({ connectionString: url });
  client.on("error", () => {});
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql, values)).rows;
  } finally {
    await client.end();
  }
}
