import type { Acquired, Lease, LeaseStore } from "../../../core/contracts/state-store.ts";
import type { Connection } from "../connection.ts";
import { integer, text, type Row } from "../row.ts";

const TAKE = `INSERT INTO lease (one, number, holder, expires_at_ms) VALUES (1, :now, :holder, :expires)
  ON CONFLICT DO UPDATE SET number = max(number + 1, :now), holder = :holder, expires_at_ms = :expires
  RETURNING number, holder, expires_at_ms`;

const SHORTEN = "UPDATE lease SET expires_at_ms = :expires";

/**
 * Leases expire by wall clock, which all processes on one file share, because they run on one machine. Numbers start at
 * the present time in milliseconds, so that the first number of a new file is higher than those that sinks saw from a
 * lost file.
 */
export class SqliteLease implements LeaseStore {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  async acquire(
    holder: string,
    durationMs: number,
    isGone: (holder: string) => boolean = () => false,
  ): Promise<Acquired> {
    const result = this.#connection.write(() => {
      const nowMs = this.#connection.clock.now();
      const held = this.#read();
      if (held !== null && held.expiresAtMs > nowMs && !isGone(held.holder)) {
        // The clock was set back since. A holder that lives renews it in time.
        const expires = Math.min(held.expiresAtMs, nowMs + durationMs);
        if (expires < held.expiresAtMs) this.#connection.run(SHORTEN, { expires });
        return { taken: false, lease: { ...held, expiresAtMs: expires }, isInherited: false };
      }
      this.#connection.expectThere();
      const taken = lease(this.#connection.get(TAKE, { holder, now: nowMs, expires: nowMs + durationMs })!);
      return { taken: true, lease: taken, isInherited: held !== null && held.expiresAtMs > 0 };
    });
    if (result.taken) this.#connection.held = result.lease.number;
    return result;
  }

  async renew(number: number, durationMs: number): Promise<boolean> {
    const expires = this.#connection.clock.now() + durationMs;
    const sql = "UPDATE lease SET expires_at_ms = :expires WHERE number = :number AND expires_at_ms > 0";
    return this.#connection.unfenced(() => this.#connection.run(sql, { number, expires }) === 1);
  }

  async release(number: number): Promise<void> {
    const sql = "UPDATE lease SET expires_at_ms = 0 WHERE number = :number";
    this.#connection.unfenced(() => this.#connection.run(sql, { number }));
    if (this.#connection.held === number) this.#connection.held = null;
  }

  async current(): Promise<Lease | null> {
    return this.#expiringAfter(this.#connection.clock.now());
  }

  async unreleased(): Promise<Lease | null> {
    return this.#expiringAfter(0);
  }

  #expiringAfter(ms: number): Lease | null {
    const found = this.#read();
    return found !== null && found.expiresAtMs > ms ? found : null;
  }

  #read(): Lease | null {
    const row = this.#connection.get("SELECT number, holder, expires_at_ms FROM lease");
    return row === undefined ? null : lease(row);
  }
}

function lease(row: Row): Lease {
  return { number: integer(row, "number"), holder: text(row, "holder"), expiresAtMs: integer(row, "expires_at_ms") };
}
