/**
 * Reads after writes. A balancer may send each statement to another replica, and one that is behind answers with less than
 * was written.
 *
 *     what is asked                        how an old answer shows            what happens
 *     lists: tables, columns, checkpoint   it lacks what the sink expects     `current` asks again
 *     rows that others build on            it does not show                   `Reads` asks where no row can be missing
 *
 * With `quorum` the server itself refuses such a read on a replica that lacks rows. Without it a session marks the replicas
 * that have caught up: `SYSTEM SYNC REPLICA` begins it wherever it ran, and the read, which may run on any of the replicas,
 * is refused where the session is unknown. Asking a replica first and reading then would not do: the two statements may
 * meet two replicas.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { ClickHouseSettings } from "@clickhouse/client";
import type { Client } from "./client.ts";
import { isElsewhere, notShown } from "./errors.ts";

/** How long what this process has written may be missing in answers. */
const STALE_MS_MAX = 5_000;
/** How long an answer is doubted that something which was there is gone, or is another's. */
export const DOUBT_MS_MAX = 1_000;
const PAUSE_MS = 50;
const PAUSE_MS_MAX = 1_000;
/** How long a replica may take to receive what was written. */
const SYNC_SECONDS_MAX = 30;

/**
 * Reads until an answer is as new as what was written: a replica may answer that has not received it. If none comes in time:
 * what is there.
 */
export async function current<T>(
  read: () => Promise<T>,
  isCurrent: (answer: T) => boolean,
  signal: AbortSignal,
  waitMs = STALE_MS_MAX,
): Promise<T> {
  let answer = await read();
  // Since it came: a slow answer is doubted like any other.
  const endMs = performance.now() + waitMs;
  for (let pauseMs = PAUSE_MS; !isCurrent(answer) && performance.now() < endMs;) {
    await sleep(pauseMs, undefined, { signal });
    pauseMs = Math.min(2 * pauseMs, PAUSE_MS_MAX);
    answer = await read();
  }
  return answer;
}

/** Reads that others build on, and statements with such a read: they see all rows that were written before. */
export class Reads {
  readonly #client: Client;
  readonly #replicated: { has(sqlName: string): boolean };
  readonly #signal: AbortSignal;

  /** `replicated`: names of tables that have replicas. */
  constructor(client: Client, replicated: { has(sqlName: string): boolean }, signal: AbortSignal) {
    this.#client = client;
    this.#replicated = replicated;
    this.#signal = signal;
  }

  async rows(sqlName: string, sql: string): ReturnType<Client["rows"]> {
    return await this.#ask(sqlName, (settings) => this.#client.rows(sql, this.#signal, settings));
  }

  async bytes(sqlName: string, sql: string): ReturnType<Client["bytes"]> {
    return await this.#ask(sqlName, (settings) => this.#client.bytes(sql, this.#signal, settings));
  }

  async run(sqlName: string, sql: string): Promise<void> {
    await this.#ask(sqlName, (settings) => this.#client.run(sql, this.#signal, settings));
  }

  async #ask<T>(sqlName: string, ask: (settings: ClickHouseSettings) => Promise<T>): Promise<T> {
    if (this.#client.isSequential || !this.#replicated.has(sqlName)) return await ask({});
    const session = { session_id: randomUUID() };
    const endMs = performance.now() + STALE_MS_MAX;
    for (let round = 1; ; round++) {
      // One more each time: replicas that take turns would take them for ever.
      for (let i = 0; i < round; i++) await this.#catchUp(sqlName, session);
      try {
        return await ask({ ...session, session_check: 1 });
      } catch (error) {
        if (!isElsewhere(error)) throw error;
        if (performance.now() >= endMs) throw notShown(`the rows of ${sqlName}`);
      }
    }
  }

  /** Not counted as a statement of the sink: nothing comes of it, whenever it runs. */
  async #catchUp(sqlName: string, session: ClickHouseSettings): Promise<void> {
    const settings = { ...session, receive_timeout: SYNC_SECONDS_MAX };
    await this.#client.text(`SYSTEM SYNC REPLICA ${sqlName} LIGHTWEIGHT`, this.#signal, settings);
  }
}
