/**
 * Transactions whose snapshot sees everything that was in the log when they began, without a lock on the whole server; or, for
 * who does not follow the log, what is visible when they begin, without any lock.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { invariant } from "../../../../src/core/invariant.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import { quoteTable } from "../../quote.ts";
import { answered, type Server } from "../wire/server.ts";
import type { Session } from "../wire/driver.ts";
import { isTooManySessions, sourceError } from "../errors.ts";
import { packPosition } from "../wire/position.ts";
import type { SourceTables } from "../catalog/source-tables.ts";
import type { LogFiles } from "../wire/log-files.ts";

/**
 * A commit is in the log before other sessions see it: usually for microseconds, with semi-synchronous replicas for longer.
 */
const VISIBLE_MS_MAX = 10_000;
const AGAIN_MS = 2;
const BEGIN = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";

export class TableReadings {
  readonly server: Server;
  readonly tables: SourceTables;
  /** Null: it is not followed. */
  readonly #files: LogFiles | null;
  /** How many sessions read a large table of the initial snapshot. */
  readonly sessionCount: number;

  constructor(server: Server, files: LogFiles | null, tables: SourceTables, sessionCount: number) {
    this.server = server;
    this.tables = tables;
    this.#files = files;
    this.sessionCount = sessionCount;
  }

  /** A session inside such a transaction; the caller must end or destroy it. */
  async begin(table: TableVersion, signal: AbortSignal): Promise<Session> {
    const [session] = await this.beginSeveral(table, 1, signal);
    invariant(session !== undefined, "a session is open");
    return session;
  }

  /**
   * Up to so many sessions, at least one, each inside a transaction of its own: their snapshots may differ, except if it takes
   * a lock to begin. The caller must end or destroy them.
   */
  async beginSeveral(table: TableVersion, countMax: number, signal: AbortSignal): Promise<readonly Session[]> {
    const doing = `taking a snapshot for ${table.id}`;
    const files = this.#files;
    const { flavour, hasGtids } = await this.server.facts(signal);
    const failed = new AbortController();
    const until = AbortSignal.any([signal, failed.signal]);
    const sessions = await this.#open(countMax, until);
    try {
      if (files === null) await Promise.all(sessions.map((one) => answered(one.query(BEGIN), doing, until)));
      else if (flavour === "mariadb") {
        const wanted = await files.tip(until);
        await Promise.all(sessions.map((one) => this.#beginMariadb(one, wanted, doing, until)));
      } else if (hasGtids) await Promise.all(sessions.map((one) => beginByNames(one, doing, until)));
      else await this.#beginLocked(sessions, table, until);
      return sessions;
    } catch (error) {
      failed.abort();
      for (const session of sessions) this.fail(session);
      throw this.server.failed(error, doing);
    }
  }

  /** Ends the transaction of a session whose statements are all answered; another reading may take the session. */
  end(session: Session): void {
    session.query("ROLLBACK").catch(() => session.destroy());
    this.server.giveBack(session);
  }

  /** The next readings open sessions of their own: a server may remember for a session what its user may not read. */
  fail(session: Session): void {
    session.destroy();
    this.server.dropKept();
  }

  /** Once the table's first row was read, its shape is locked until the transaction ends. */
  async checkShape(table: TableVersion, signal: AbortSignal): Promise<void> {
    const [live] = await this.tables.catalog.read(table, signal);
    const shape = live === undefined ? undefined : this.tables.followedShape(live);
    const isSame =
      shape?.columns.length === table.columns.length &&
      shape.columns.every(({ name, native }, i) => {
        const column = table.columns[i]!;
        return column.name === name && column.native === native;
      });
    if (!isSame) throw sourceError("MR2025", "retryable", `${table.id} was altered before it was read`);
  }

  /** Fewer than `countMax`, if the server lets its user have no more. */
  async #open(countMax: number, signal: AbortSignal): Promise<readonly Session[]> {
    const opening = await Promise.allSettled(Array.from({ length: countMax }, () => this.server.lend(signal)));
    const sessions = opening.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
    const failures = opening.flatMap((one) => (one.status === "rejected" ? [one.reason as unknown] : []));
    const failure = sessions.length === 0 ? failures[0] : failures.find((error) => !isTooManySessions(error));
    // Where they are few, others need them.
    if (failures.length > 0) this.server.dropKept();
    if (failure === undefined) return sessions;
    for (const session of sessions) session.destroy();
    throw failure;
  }

  /** MariaDB shows the snapshot's position in the log. */
  async #beginMariadb(session: Session, wanted: bigint, doing: string, signal: AbortSignal): Promise<void> {
    const deadlineMs = performance.now() + VISIBLE_MS_MAX;
    for (;;) {
      await answered(session.query(BEGIN), doing, signal);
      const rows = await answered(session.query("SHOW STATUS LIKE 'binlog_snapshot_%'"), doing, signal);
      const values = new Map(rows.map(([name, value]) => [name?.toLowerCase(), value]));
      const file = values.get("binlog_snapshot_file") ?? "";
      const offset = Number(values.get("binlog_snapshot_position") ?? "0");
      if (file !== "" && packPosition(this.server.names.learn(file), offset) >= wanted) return;
      await answered(session.query("ROLLBACK"), doing, signal);
      if (performance.now() > deadlineMs) throw notVisible();
      await sleep(AGAIN_MS, undefined, { signal });
    }
  }

  /** Without GTIDs only the table itself shows that no session is about to commit to it: by a brief lock. */
  async #beginLocked(sessions: readonly Session[], table: TableVersion, signal: AbortSignal): Promise<void> {
    const doing = `locking ${table.id} for a moment`;
    const locking = await this.server.lend(signal);
    try {
      await answered(locking.query(`LOCK TABLES ${quoteTable(table.schema, table.table)} READ`), doing, signal);
      await Promise.all(sessions.map((session) => answered(session.query(BEGIN), doing, signal)));
      await answered(locking.query("UNLOCK TABLES"), doing, signal);
      this.server.giveBack(locking);
    } catch (error) {
      this.fail(locking);
      throw error;
    }
  }
}

/**
 * A transaction's GTID is owned from before it is in the log until other sessions see it. So the GTIDs that are owned now
 * must first be released.
 */
async function beginByNames(session: Session, doing: string, signal: AbortSignal): Promise<void> {
  const deadlineMs = performance.now() + VISIBLE_MS_MAX;
  let open = await ownedNames(session, doing, signal);
  while (open.size > 0) {
    if (performance.now() > deadlineMs) throw notVisible(open);
    await sleep(AGAIN_MS, undefined, { signal });
    const now = await ownedNames(session, doing, signal);
    open = new Set([...open].filter((name) => now.has(name)));
  }
  await answered(session.query(BEGIN), doing, signal);
}

/** `uuid:7#12:9#14,uuid:tag:3#15`: sets of numbers with the threads that own them. */
async function ownedNames(session: Session, doing: string, signal: AbortSignal): Promise<ReadonlySet<string>> {
  const [row] = await answered(session.query("SELECT @@GLOBAL.gtid_owned"), doing, signal);
  const names = new Set<string>();
  for (const set of (row?.[0] ?? "").split(",")) {
    const parts = set.trim().split(":");
    let prefix = "";
    for (const part of parts) {
      if (part.includes("#")) names.add(`${prefix}:${part}`);
      else prefix += `/${part}`;
    }
  }
  return names;
}

/** `names`: of GTIDs with the connections that own them. */
function notVisible(names: ReadonlySet<string> = new Set()): Error {
  const [owner] = Array.from(names, (name) => name.split("#")[1]);
  const of = owner === undefined ? "" : ` of connection ${owner}`;
  const end = owner === undefined ? "" : `; to end it there: KILL ${owner}`;
  return sourceError("MR2001", "retryable", `a commit${of} has not been visible for ${VISIBLE_MS_MAX / 1000} s`, {
    hint: `Look whether it waits for a semi-synchronous replica, or has its gtid_next set and goes no further${end}. Millrace tries again by itself.`,
  });
}
