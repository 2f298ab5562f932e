import type { Acquired, Lease, LeaseStore } from "../../../core/contracts/state-store.ts";
import type { Connection } from "../connection.ts";
import { integer, text } from "../row.ts";

const TAKE = `INSERT INTO lease (one, number, holder, expires_at_ms) VALUES (1, :now, :holder, :expires)
  ON CONFLICT DO UPDATE SET number = max(number + 1, :now), holder = :holder, expires_at_ms = :expires`;

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
      const held = this.#holder(durationMs, isGone);
      if (held !== null) return { taken: false, lease: held, isInherited: false };
      this.#connection.expectThere();
      const isInherited = this.#unreleased() !== null;
      const nowMs = this.#connection.clock.now();
      this.#connection.run(TAKE, { holder, now: nowMs, expires: nowMs + durationMs });
      return { taken: true, lease: this.#unreleased()!, isInherited };
    });
    if (result.taken) this.#connection.held = result.lease.number;
    return result;
  }

  async holder(durationMs: number, isGone: (holder: string) => boolean = () => false): Promise<Lease | null> {
    return this.#connection.unfenced(() => this.#holder(durationMs, isGone));
  }

  /** The caller has opened a transaction. */
  #holder(durationMs: number, isGone: (holder: string) => boolean): Lease | null {
    const held = this.#current();
    if (held === null || isGone(held.holder)) return null;
    if (held.leftMs <= durationMs) return held;
    this.#connection.run(SHORTEN, { expires: this.#connection.clock.now() + durationMs });
    return { ...held, leftMs: durationMs };
  }

  async renew(number: number, durationMs: number): Promise<boolean> {
    const expires = this.#connection.clock.now() + durationMs;
    const sql = "UPDATE lease SET expires_at_ms = :expires WHERE number = :number AND expires_at_ms > 0";
    return this.#connection.unfenced(() => this.#connection.run(sql, { number, expires }) === 1);
  }

  async release(number: number): Promise<void> {
    const sql = "UPDATE lease SET expires_at_ms = 0 WHERE number = :number";
    if (!this.#connection.isLost) this.#connection.unfenced(() => this.#connection.run(sql, { number }));
    if (this.#connection.held === number) this.#connection.held = null;
  }

  async current(): Promise<Lease | null> {
    return this.#current();
  }

  async unreleased(): Promise<Lease | null> {
    return this.#unreleased();
  }

  #current(): Lease | null {
    const last = this.#unreleased();
    return last !== null && last.leftMs > 0 ? last : null;
  }

  #unreleased(): Lease | null {
    const row = this.#connection.get("SELECT number, holder, expires_at_ms FROM lease WHERE expires_at_ms > 0");
    if (row === undefined) return null;
    const leftMs = integer(row, "expires_at_ms") - this.#connection.clock.now();
    return { number: integer(row, "number"), holder: text(row, "holder"), leftMs };
  }
}
