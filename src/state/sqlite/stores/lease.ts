import type { StatementSync } from "node:sqlite";
import type { Acquired, Lease, LeaseStore } from "../../../core/contracts/state-store.ts";
import type { Connection } from "../connection.ts";
import { integer, text, type Row } from "../row.ts";

/**
 * Leases expire by wall clock, which all processes on one file share, because they run on one machine. Numbers start at
 * the present time in milliseconds, so that the first number of a new file is higher than those that sinks saw from a
 * lost file.
 */
export class SqliteLease implements LeaseStore {
  readonly #connection: Connection;
  readonly #get: StatementSync;
  readonly #take: StatementSync;
  readonly #renew: StatementSync;
  readonly #release: StatementSync;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.#get = connection.prepare("SELECT number, holder, expires_at_ms FROM lease");
    this.#take = connection.prepare(
      `INSERT INTO lease (one, number, holder, expires_at_ms) VALUES (1, :now, :holder, :expires)
       ON CONFLICT DO UPDATE SET number = max(number + 1, :now), holder = :holder, expires_at_ms = :expires
       RETURNING number, holder, expires_at_ms`,
    );
    this.#renew = connection.prepare(
      "UPDATE lease SET expires_at_ms = :expires WHERE number = :number AND expires_at_ms > 0",
    );
    this.#release = connection.prepare("UPDATE lease SET expires_at_ms = 0 WHERE number = :number");
  }

  async acquire(
    holder: string,
    durationMs: number,
    isGone: (holder: string) => boolean = () => false,
  ): Promise<Acquired> {
    const result = this.#connection.write(() => {
      const nowMs = this.#connection.clock.now();
      const held = this.#read();
      if (held !== null && held.expiresAtMs > nowMs && !isGone(held.holder))
        return { taken: false, lease: held, isInherited: false };
      const taken = lease(this.#take.get({ holder, now: nowMs, expires: nowMs + durationMs })!);
      return { taken: true, lease: taken, isInherited: held !== null && held.expiresAtMs > 0 };
    });
    if (result.taken) this.#connection.held = result.lease.number;
    return result;
  }

  async renew(number: number, durationMs: number): Promise<boolean> {
    const expires = this.#connection.clock.now() + durationMs;
    return this.#connection.unfenced(() => this.#renew.run({ number, expires }).changes === 1);
  }

  async release(number: number): Promise<void> {
    this.#connection.unfenced(() => this.#release.run({ number }));
    if (this.#connection.held === number) this.#connection.held = null;
  }

  async current(): Promise<Lease | null> {
    return this.#expiringAfter(this.#connection.clock.now());
  }

  async unreleased(): Promise<Lease | null> {
    return this.#expiringAfter(0);
  }

  #expiringAfter(ms: number): Lease | null {
    const found = this.#connection.read(() => this.#read());
    return found !== null && found.expiresAtMs > ms ? found : null;
  }

  #read(): Lease | null {
    const row = this.#get.get();
    return row === undefined ? null : lease(row);
  }
}

function lease(row: Row): Lease {
  return { number: integer(row, "number"), holder: text(row, "holder"), expiresAtMs: integer(row, "expires_at_ms") };
}
