/**
 * A source that keeps its log as MySQL does: for a time, whoever reads it; transactions have names, under which another host is
 * gone on in. Whole rows are in the log, and a read waits until all that is in the log can be seen.
 */
import { type ErrorCode, MillraceError } from "../../src/core/errors.ts";
import type { Position } from "../../src/core/model/position.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import {
  type Chunk,
  type CreatedLog,
  type CreateRequest,
  type Crossing,
  type HeldPositions,
  type KeyText,
  type LogIdentity,
  LogMoved,
  type Visibility,
} from "../../src/core/contracts/source.ts";
import type { Failover } from "./server.ts";
import { generationsOf, lost, PostgresLikeSource } from "./postgres-source.ts";

const seesAll = (): boolean => true;

export class BinlogLikeSource extends PostgresLikeSource {
  override readonly losses: ReadonlySet<ErrorCode> = new Set<ErrorCode>(["MR2116", "MR2117"]);
  /** The host that this process talks to; another one is refused. */
  #host = 0;

  override async create(request: CreateRequest, signal: AbortSignal): Promise<CreatedLog> {
    return await this.connection.call(
      "create",
      () => {
        const { database, host } = this.server;
        this.#host = host;
        const position = { epoch: request.epoch, commit: database.end, index: 0 };
        return { identity: this.#identity, position, copy: request.wantCopy ? this.copy(request.epoch) : null };
      },
      signal,
    );
  }

  get #identity(): LogIdentity {
    return { host: String(this.server.host) };
  }

  async cross(identity: LogIdentity, places: readonly bigint[], signal: AbortSignal): Promise<Crossing | null> {
    return await this.connection.call(
      "cross",
      () => {
        const { database, failovers, host } = this.server;
        const before = Number(identity["host"]);
        if (before === host) return null;
        this.#host = host;
        const since = failovers.slice(before - 1);
        const known = new Map(
          places.flatMap((place) => {
            const now = placeAfter(since, place);
            return now === null || now < this.server.purgedTo ? [] : [[place, now] as const];
          }),
        );
        const { end } = database;
        const from = [...known.values(), end].reduce((least, place) => (place < least ? place : least));
        const generations = new Map(
          [...generationsOf(database)].map(([id, now]) => [id, { before: now, now }] as const),
        );
        return { identity: this.#identity, places: known, from, end, generations };
      },
      signal,
    );
  }

  override async resume(identity: LogIdentity, held: HeldPositions, signal: AbortSignal): Promise<LogIdentity> {
    return await this.connection.call(
      "resume",
      () => {
        const { database, host, purgedTo } = this.server;
        if (identity["host"] !== String(host))
          throw new LogMoved({ code: "MR2128", kind: "fatal", message: "another host answers" });
        this.#host = host;
        if (held.from.commit < purgedTo) throw lost("MR2116", "the log was purged beyond the place");
        if (held.reached.commit > database.end) throw lost("MR2117", "the log ends before the place");
        return this.#identity;
      },
      signal,
    );
  }

  protected override expectLog(from: Position): void {
    this.#expectHost();
    if (from.commit < this.server.purgedTo) throw lost("MR2116", "the log was purged beyond the place");
  }

  /** `resume` finds out whether it can be gone on in. */
  #expectHost(): void {
    if (this.server.host === this.#host) return;
    throw new MillraceError({ code: "MR2130", kind: "retryable", message: "the connection ended at another host" });
  }

  override async settle(): Promise<void> {}

  override async visibility(): Promise<Visibility> {
    return { sees: seesAll, committing: [] };
  }

  override async readRange(
    table: TableVersion,
    after: KeyText | null,
    where: string | null,
    signal: AbortSignal,
  ): Promise<Chunk> {
    await this.#allVisible(signal);
    this.#expectHost();
    return { ...(await super.readRange(table, after, where, signal)), sees: seesAll };
  }

  override async readKeys(table: TableVersion, keys: readonly KeyText[], signal: AbortSignal): Promise<Chunk> {
    await this.#allVisible(signal);
    this.#expectHost();
    return { ...(await super.readKeys(table, keys, signal)), sees: seesAll };
  }

  /** Whoever reads then sees all that is in the log at the call. */
  async #allVisible(signal: AbortSignal): Promise<void> {
    const { database } = this.server;
    const open = new Set(database.committingXids);
    while (database.committingXids.some((xid) => open.has(xid))) await this.process.sleep(5, signal);
  }

  override async remove(): Promise<void> {}

  override async earliest(signal: AbortSignal): Promise<bigint | null> {
    return await this.connection.call("earliest", () => this.server.purgedTo, signal);
  }
}

/** Null: the new host lacks what lies before it. */
function placeAfter(failovers: readonly Failover[], place: bigint): bigint | null {
  let now = place;
  for (const { offset, commonEnd } of failovers) {
    if (now > commonEnd) return null;
    now += offset;
  }
  return now;
}
