/** A source's slot whose backlog is replayed: when a reader streams it, and when the reader is done. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";

/** Settings of a server that must survive a crash of its machine, unlike those of the tests. */
export const DURABLE = { fsync: "on", full_page_writes: "on" } as const;

export const SETTINGS = {
  ...DURABLE,
  max_wal_size: "8GB",
  checkpoint_timeout: "30min",
  shared_buffers: "256MB",
  autovacuum: "off",
} as const;
const POLL_MS = 10;
/** How often the source logs the record that a slot needs to move. */
const SETTLE_POLL_MS = 200;
const WAIT_MS_MAX = 300_000;

export class Slot {
  readonly #source: Client;
  readonly #name: string;

  constructor(source: Client, name: string) {
    this.#source = source;
    this.#name = name;
  }

  /** Waits until the server streams, and returns the walsender's process. */
  async streaming(): Promise<number> {
    let walsender: number | null = null;
    await until(async () => (walsender = await this.#walsender()) !== null);
    return walsender ?? 0;
  }

  async free(): Promise<void> {
    await until(async () => (await this.#walsender()) === null);
  }

  /**
   * Waits until the slot would begin after the replayed changes. By itself, a slot's start moves only every few seconds.
   * Without this wait, one side would sometimes decode the previous work again, within the time of the next.
   */
  async settled(): Promise<void> {
    const { rows } = await this.#source.query<{ lsn: string }>("select pg_current_wal_insert_lsn()::text as lsn");
    await until(async () => {
      await this.#source.query("select pg_log_standby_snapshot()");
      await sleep(SETTLE_POLL_MS);
      const found = await this.#source.query(
        "select 1 from pg_replication_slots where slot_name = $1 and restart_lsn >= $2::pg_lsn",
        [this.#name, rows[0]!.lsn],
      );
      return found.rowCount === 1;
    });
  }

  async #walsender(): Promise<number | null> {
    const { rows } = await this.#source.query<{ pid: number | null }>(
      // Not a session that only looks into the slot or moves it on.
      "select active_pid as pid from pg_replication_slots join pg_stat_replication on pid = active_pid where slot_name = $1",
      [this.#name],
    );
    return rows[0]?.pid ?? null;
  }
}

export async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + WAIT_MS_MAX;
  while (!(await condition())) {
    if (performance.now() > deadlineMs) throw new Error(`the wait took longer than ${WAIT_MS_MAX / 1000} s`);
    await sleep(POLL_MS);
  }
}
