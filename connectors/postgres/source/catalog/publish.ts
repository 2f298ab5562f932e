/**
 * Changes of the publication. Each change locks its tables, so it uses its own connection, and waits only briefly for a
 * lock. The application would wait behind a waiting lock request, and a statement that holds one table while it waits for
 * the next would deadlock with a migration that takes them in another order.
 */
import { type ErrorReason, type MillraceError, reasonOf } from "../../../../src/core/errors.ts";
import { groupsOf } from "../../../../src/core/each-of.ts";
import { quoteIdentifier, quoteLiteral } from "../../../../src/postgres/quote.ts";
import type { CatalogTable } from "./catalog.ts";
import type { SourceContext } from "../wire/context.ts";
import { Database } from "../wire/database.ts";
import { sourceError } from "../errors.ts";
import {
  addAdvice,
  addRefusal,
  addStatement,
  checkPublication,
  COMMENT,
  createStatement,
  lacksRoot,
  type Publication,
  publishable,
  viaRootStatement,
} from "./publication.ts";

/** How long to wait for the lock of one table. */
const LOCK_MS_MAX = 250;
/** How long to wait for several, while holding the earlier ones: far below the server's deadlock_timeout (1 s). */
const TOGETHER_LOCK_MS_MAX = 100;
const TOGETHER_COUNT_MAX = 64;

export interface Synced {
  /** Tables that the publication did not carry before. */
  readonly added: readonly CatalogTable[];
  /** Tables that it does not carry yet, because another session has locked them. */
  readonly locked: readonly CatalogTable[];
}

/** Makes the publication carry `tables`, besides what it carries already. */
export async function syncPublication(
  context: SourceContext,
  current: Publication | undefined,
  tables: readonly CatalogTable[],
  signal: AbortSignal,
): Promise<Synced> {
  if (current !== undefined) checkPublication(context, current, tables);
  const added = tables.filter((table) => current?.published.has(table.oid) !== true);
  const wantsRoot = current !== undefined && lacksRoot(current, tables);
  if (current !== undefined && added.length === 0 && !wantsRoot) return { added, locked: [] };
  const advice =
    current === undefined ? createStatement(context.publication, tables) : addStatement(context.publication, added);
  const mayAll =
    current === undefined
      ? added.every((table) => table.owned)
      : publishable(context, current, added).length === added.length;
  if (!(await context.writer.canWrite(signal))) throw notHere(context, advice);
  if (!mayAll) throw current === undefined ? notAllowed(context, advice) : notAdded(context, current, added);
  await using session = await Altering.begin(context, signal);
  if (current === undefined) await session.create(advice, signal);
  else if (wantsRoot) await session.run(viaRootStatement(context.publication), LOCK_MS_MAX, signal);
  const locked = await session.addAll(added, signal);
  const missing = new Set(locked);
  return { added: added.filter((table) => !missing.has(table)), locked };
}

/** Oids of the tables that `takeOut` has to remove from our own publication, so that it carries only `tables`. */
export function leaving(current: Publication | undefined, tables: readonly CatalogTable[]): readonly number[] {
  if (current === undefined || !current.ours || !current.owned) return [];
  const wanted = new Set(tables.map((table) => table.oid));
  return [...current.entries.keys()].filter((oid) => !wanted.has(oid));
}

/** A locked table stays until the next attempt. */
export async function takeOut(context: SourceContext, oids: readonly number[], signal: AbortSignal): Promise<void> {
  if (oids.length === 0) return;
  await using session = await Altering.begin(context, signal);
  for (const oid of oids) await session.takeOut(oid, signal);
}

/** Selects the statement: the server names the table, whose name may have no form in UTF-8. */
function dropStatement(publication: string, oid: number): string {
  return `SELECT format('ALTER PUBLICATION %I DROP TABLE ONLY %s', p.pubname, r.prrelid::regclass) AS statement
    FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE p.pubname = ${quoteLiteral(publication)} AND r.prrelid = ${oid}`;
}

class Altering implements AsyncDisposable {
  readonly #context: SourceContext;
  readonly #database: Database;

  private constructor(context: SourceContext, database: Database) {
    this.#context = context;
    this.#database = database;
  }

  static async begin(context: SourceContext, signal: AbortSignal): Promise<Altering> {
    return new Altering(context, new Database((await context.writer.database(signal)).address));
  }

  async create(advice: string, signal: AbortSignal): Promise<void> {
    const { publication } = this.#context;
    // One statement string is one transaction: the comment is there if the publication is.
    const comment = `COMMENT ON PUBLICATION ${quoteIdentifier(publication)} IS ${quoteLiteral(COMMENT)}`;
    await this.run(`${createStatement(publication, [])}; ${comment}`, LOCK_MS_MAX, signal, advice);
  }

  /** Returns the locked ones. */
  async addAll(tables: readonly CatalogTable[], signal: AbortSignal): Promise<readonly CatalogTable[]> {
    const { publication, logger } = this.#context;
    const locked: CatalogTable[] = [];
    for (const group of groupsOf(tables, TOGETHER_COUNT_MAX)) {
      if (group.length > 1 && (await this.#addTogether(group, signal))) continue;
      for (const table of group) if (!(await this.each(addStatement(publication, [table]), signal))) locked.push(table);
    }
    if (tables.length > locked.length)
      logger.info({ publication, tables: tables.length - locked.length }, "tables added");
    return locked;
  }

  async #addTogether(group: readonly CatalogTable[], signal: AbortSignal): Promise<boolean> {
    try {
      await this.run(addStatement(this.#context.publication, group), TOGETHER_LOCK_MS_MAX, signal);
      return true;
    } catch (error) {
      if (meaningOf(error) === "other") throw error;
      return false;
    }
  }

  /** Runs a statement about one table. False if the table is locked, or has just been dropped. */
  async each(sql: string, signal: AbortSignal): Promise<boolean> {
    try {
      await this.run(sql, LOCK_MS_MAX, signal);
    } catch (error) {
      const meaning = meaningOf(error);
      if (meaning === "other") throw error;
      return meaning === "done";
    }
    return true;
  }

  /** By a block, into which no rename can come; where plpgsql is missing, or not for this role, by the name that is read. */
  async takeOut(oid: number, signal: AbortSignal): Promise<void> {
    const select = dropStatement(this.#context.publication, oid);
    const block = `DECLARE statement text; BEGIN FOR statement IN ${select} LOOP EXECUTE statement; END LOOP; END`;
    try {
      // An error would name the table too.
      await this.run(`SET LOCAL client_encoding = 'SQL_ASCII'; DO ${quoteLiteral(block)}`, LOCK_MS_MAX, signal);
    } catch (error) {
      const reason = reasonOf(error);
      const isWithoutBlocks = reason === "privilege" || reason === "no-object";
      const named = isWithoutBlocks ? await this.#legibleStatements(select, signal) : null;
      if (named === null && meaningOf(error) === "other") throw error;
      for (const statement of named ?? []) await this.each(statement, signal);
    }
  }

  async #legibleStatements(select: string, signal: AbortSignal): Promise<readonly string[] | null> {
    const doing = "reading the name of a table";
    const rows = await this.#database.legibleRows<{ statement: string }>(doing, select, [], signal);
    return rows?.map(({ statement }) => statement) ?? null;
  }

  /** `advice`: the statement for another role to run, without our mark. */
  async run(sql: string, lockMs: number, signal: AbortSignal, advice = sql): Promise<void> {
    try {
      await this.#database.simple("changing the publication", `SET LOCAL lock_timeout = ${lockMs}; ${sql}`, signal);
      await this.#context.writer.replayed(this.#database, signal);
    } catch (error) {
      if (reasonOf(error) !== "privilege") throw error;
      throw notAllowed(this.#context, advice, error);
    }
    this.#context.logger.debug({ publication: this.#context.publication }, "publication changed");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#database.close();
  }
}

/** A lock that was not free, a deadlock that the server ended, or a table that has been dropped meanwhile. */
const PASSING: ReadonlySet<ErrorReason> = new Set(["lock", "conflict", "no-table", "no-object"]);

function meaningOf(error: unknown): "done" | "passing" | "other" {
  const reason = reasonOf(error);
  // An earlier attempt of ours may have done it, if it was cut off before its answer came.
  if (reason === "exists") return "done";
  return reason !== undefined && PASSING.has(reason) ? "passing" : "other";
}

function notHere({ publication }: SourceContext, advice: string): MillraceError {
  const message = `the publication ${publication} has to be changed on the primary of this standby`;
  const hint = `On the primary let the tables' owner run: ${advice}; Or set source.primaryUrl, then Millrace does it.`;
  return sourceError("MR2008", "fatal", message, { hint, reason: "privilege" });
}

function notAdded({ publication }: SourceContext, current: Publication, added: readonly CatalogTable[]): MillraceError {
  const message = `the publication ${publication} lacks tables: ${addRefusal(current, added)}`;
  const hint = `Let the tables' owner run: ${addAdvice(publication, current, added)}`;
  return sourceError("MR2008", "fatal", message, { hint, reason: "privilege" });
}

function notAllowed({ publication }: SourceContext, advice: string, cause?: unknown): MillraceError {
  const message = `the role may not change the publication ${publication}`;
  return sourceError("MR2008", "fatal", message, {
    hint: `Let the tables' owner run: ${advice};`,
    cause,
    reason: "privilege",
  });
}
