/**
 * A source that keeps its log as MySQL does: for a time, whoever reads it; transactions have names, under which another host is
 * gone on in. Whole rows are in the log, and a read waits until all that is in the log can be seen.
 */
import { type ErrorCode, MillraceError } from "../../src/core/errors.ts";
import type { LogAdmin } from "../../src/core/contracts/log-admin.ts";
import type { LogIdentity } from "../../src/core/contracts/positions.ts";
import type { RowReads } from "../../src/core/contracts/row-reads.ts";
import type { Source } from "../../src/core/contracts/source.ts";
import { EVERYTHING_VISIBLE } from "../../src/core/contracts/watermarks.ts";
import type { Failover, Server } from "./server.ts";
import { type Client, clientOf, copyOf, generationsOf, lost, sourceOver } from "./postgres-source.ts";
import type { SimulatedProcess } from "./scheduler.ts";

export function binlogLikeSource(process: SimulatedProcess, server: Server): Source {
  const client = clientOf(process, server);
  const host = new KnownHost(server);
  const like = sourceOver(client, (from) => {
    host.expect();
    if (from.commit < server.purgedTo) throw lost("MR2010", "the log was purged beyond the place");
  });
  const { markPrefix, mark, renew } = like.watermarks;
  return {
    ...like,
    log: {
      ...like.log,
      earliest: (signal) => client.connection.call("earliest", () => server.purgedTo, signal),
    },
    admin: logAdmin(like.admin, client, host),
    rows: rowReads(like.rows, client, host),
    watermarks: { markPrefix, mark, renew },
  };
}

/** The host that a process talks to; another one is refused. */
class KnownHost {
  readonly #server: Server;
  #host = 0;

  constructor(server: Server) {
    this.#server = server;
  }

  know(): void {
    this.#host = this.#server.host;
  }

  /** `resume` finds out whether it can be gone on in. */
  expect(): void {
    if (this.#server.host === this.#host) return;
    throw new MillraceError({ code: "MR2032", kind: "retryable", message: "the connection ended at another host" });
  }
}

function identityOf({ host }: Server): LogIdentity {
  return { host: String(host) };
}

function logAdmin({ remove: _remove, ...like }: LogAdmin, client: Client, known: KnownHost): LogAdmin {
  const { server, connection } = client;
  return {
    ...like,
    losses: new Set<ErrorCode>(["MR2010", "MR2013"]),
    create: ({ epoch, wantCopy }, signal) =>
      connection.call(
        "create",
        () => {
          known.know();
          const position = { epoch, commit: server.database.end, index: 0 };
          return { identity: identityOf(server), position, copy: wantCopy ? copyOf(client, epoch) : null };
        },
        signal,
      ),
    cross: (identity, positions, signal) =>
      connection.call(
        "cross",
        () => {
          const { database, failovers, host } = server;
          const before = Number(identity["host"]);
          if (before === host) return null;
          known.know();
          const since = failovers.slice(before - 1);
          const there = new Map(
            positions.flatMap((position) => {
              const now = placeAfter(since, position);
              return now === null || now < server.purgedTo ? [] : [[position, now] as const];
            }),
          );
          const { end } = database;
          const from = [...there.values(), end].reduce((least, position) => (position < least ? position : least));
          const generations = new Map(
            [...generationsOf(database)].map(([id, now]) => [id, { before: now, now }] as const),
          );
          return { identity: identityOf(server), positions: there, from, end, generations };
        },
        signal,
      ),
    resume: (identity, held, signal) =>
      connection.call(
        "resume",
        () => {
          const { database, host, purgedTo } = server;
          if (identity["host"] !== String(host))
            throw new MillraceError({
              code: "MR2032",
              kind: "fatal",
              message: "another host answers",
              reason: "moved",
            });
          known.know();
          if (held.from.commit < purgedTo) throw lost("MR2010", "the log was purged beyond the position");
          if (held.reached.commit > database.end) throw lost("MR2013", "the log ends before the position");
          return identityOf(server);
        },
        signal,
      ),
  };
}

function rowReads(like: RowReads, { process, server }: Client, host: KnownHost): RowReads {
  const { database } = server;
  const { sees } = EVERYTHING_VISIBLE;
  /** Whoever reads then sees all that is in the log at the call. */
  const allVisible = async (signal: AbortSignal): Promise<void> => {
    const open = new Set(database.committingXids);
    while (database.committingXids.some((xid) => open.has(xid))) await process.sleep(5, signal);
  };
  return {
    readRange: async (table, range, signal) => {
      await allVisible(signal);
      host.expect();
      const { block, last } = await like.readRange(table, range, signal);
      return { block, last, sees };
    },
    readKeys: async (table, keys, signal) => {
      await allVisible(signal);
      host.expect();
      const { block, last } = await like.readKeys(table, keys, signal);
      return { block, last, sees };
    },
  };
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
