import { basename, dirname, join } from "node:path";
import { findMillraceError } from "../../core/errors.ts";
import type { StateAddress } from "../../core/contracts/connector.ts";
import type { Acquired, Lease, LeaseStore, StateDump, StateStore } from "../../core/contracts/state-store.ts";
import { aroundCalls } from "../patient.ts";
import { leaseHeld, otherThanWritten, stateError } from "../errors.ts";
import { migrationsIn, newestMigration } from "../sqlite/migrate.ts";
import { assemble, type SqliteOptions } from "../sqlite/open.ts";
import { Link, type Query } from "./link.ts";
import { type Change, contentOf, type ReceivedRow, Replica } from "./replica.ts";
import { readFileSync } from "node:fs";

interface StateLine {
  readonly form: number;
  readonly revision: string;
  readonly lease_number: string;
  readonly holder: string;
  /** Null: the lease was released. */
  readonly left_ms: string | null;
}

const SHORTEN = `UPDATE millrace.state SET expires_at = clock_timestamp() + $2::bigint * interval '1 millisecond'
  WHERE name = $1 AND expires_at > clock_timestamp() + $2::bigint * interval '1 millisecond'`;
const LINE = `SELECT form, revision, lease_number, holder,
  (extract(epoch from expires_at - clock_timestamp()) * 1000)::bigint AS left_ms FROM millrace.state WHERE name = $1`;

/**
 * `url` may end in `#` and a local path that stands for the state, two folders below the configuration's. Its last part
 * is the name if none is given.
 */
export async function openPostgres(at: StateAddress, options: SqliteOptions): Promise<StateStore> {
  const [url = "", localPath = ""] = at.url.split("#", 2);
  const name = options.name ?? basename(localPath, ".db");
  const link = new Link({ ...at, url }, dirname(dirname(localPath)));
  const readOnly = options.readOnly ?? false;
  try {
    if (readOnly) await verifyThere(link, name);
    else await migrate(link, name);
    return new PostgresState(link, name, readOnly).store();
  } catch (error) {
    await link.close().catch(() => {
      // The earlier error says why.
    });
    throw error;
  }
}

/** For work without the lease: fail at once, do not wait. */
const NO_DEADLINE = 0;
/** Work on the server ends this long before the lease does. */
const MARGIN_MS = 1_000;

/**
 * A state on a Postgres server. The holder of the lease works on a copy (`Replica`): it reads from the copy, and each
 * call resolves only when its changes are on the server, written by one statement that checks the lease. While the
 * server is unreachable, calls retry until the lease ends; after that this process may not write, and every call fails.
 * A process without the lease loads the rows again at every call, and writes only while nobody holds the lease.
 */
class PostgresState implements LeaseStore {
  readonly #link: Link;
  readonly #name: string;
  readonly #readOnly: boolean;
  readonly #replica = new Replica();
  readonly #unsent = new Map<string, Change>();
  /** The number of the lease that this process holds. */
  #held: number | null = null;
  #heldUntilMs = NO_DEADLINE;
  /** Of the rows on the server, as this process loaded or wrote them last. */
  #revision = 0n;
  #sending: Promise<void> | null = null;
  /** Counts recorded changes, and those of them that are on the server. */
  #taken = 0;
  #durable = 0;
  #failure: unknown = null;

  constructor(link: Link, name: string, readOnly: boolean) {
    this.#link = link;
    this.#name = name;
    this.#readOnly = readOnly;
  }

  store(): StateStore {
    const local = assemble(this.#replica.connection);
    return {
      ...aroundCalls(local, (call) => this.#throughCopy(call)),
      lease: this,
      waitsFor: () => this.#link.waitsFor,
      dump: () => this.#dump(),
      restore: (dump) => this.#restore(dump),
      remove: () => this.#remove(),
      close: async () => {
        await this.#link.close();
        this.#replica.close();
      },
    };
  }

  async acquire(
    holder: string,
    durationMs: number,
    isGone: (holder: string) => boolean = () => false,
  ): Promise<Acquired> {
    const startedMs = performance.now();
    const result = await this.#link.transaction(async (query) => {
      const [found] = await query<StateLine>(`${LINE} FOR UPDATE`, [this.#name]);
      const held = await this.#holder(query, durationMs, isGone);
      if (held !== null) return { taken: false, lease: held, isInherited: false };
      await query(
        `UPDATE millrace.state SET holder = $2, revision = revision + 1,
           expires_at = clock_timestamp() + $3::bigint * interval '1 millisecond',
           lease_number = greatest(lease_number + 1, (extract(epoch from clock_timestamp()) * 1000)::bigint)
         WHERE name = $1`,
        [this.#name, holder, durationMs],
      );
      const line = await this.#line(query);
      await this.#load(query, line);
      this.#revision = BigInt(line.revision);
      if (line.form !== newestMigration()) await this.#rewrite(query);
      return { taken: true, lease: unreleasedIn(line)!, isInherited: unreleasedIn(found) !== null };
    });
    if (result.taken) {
      this.#failure = null;
      this.#held = result.lease.number;
      this.#heldUntilMs = startedMs + durationMs;
    }
    return result;
  }

  async holder(durationMs: number, isGone: (holder: string) => boolean = () => false): Promise<Lease | null> {
    return await this.#link.once((query) => this.#holder(query, durationMs, isGone));
  }

  async #holder(query: Query, durationMs: number, isGone: (holder: string) => boolean): Promise<Lease | null> {
    const [line] = await query<StateLine>(LINE, [this.#name]);
    const held = currentIn(line);
    if (held === null || isGone(held.holder)) return null;
    if (held.leftMs <= durationMs) return held;
    await query(SHORTEN, [this.#name, durationMs]);
    return { ...held, leftMs: durationMs };
  }

  async renew(number: number, durationMs: number): Promise<boolean> {
    const startedMs = performance.now();
    const rows = await this.#link.once(async (query) => {
      const renewed = await query<{ revision: string }>(
        `UPDATE millrace.state SET expires_at = clock_timestamp() + $3::bigint * interval '1 millisecond'
           WHERE name = $1 AND lease_number = $2 AND expires_at IS NOT NULL RETURNING revision`,
        [this.#name, number, durationMs],
      );
      if (number !== this.#held) return renewed;
      // Also one that has nothing to write sees it.
      const [own] = renewed;
      const isOther =
        own === undefined ? this.#isEarlier(await this.#line(query)) : BigInt(own.revision) !== this.#revision;
      if (isOther) throw (this.#failure ??= otherThanWritten());
      return renewed;
    }, this.#heldUntilMs - MARGIN_MS);
    if (rows.length === 1) this.#heldUntilMs = startedMs + durationMs;
    return rows.length === 1;
  }

  async release(number: number): Promise<void> {
    const own = this.#held ?? number;
    this.#held = null;
    try {
      await this.#link.once((query) =>
        query("UPDATE millrace.state SET expires_at = NULL WHERE name = $1 AND lease_number = $2", [this.#name, own]),
      );
    } catch (error) {
      // The lease expires by itself. Throwing would hide the error that stopped the daemon.
      if (this.#failure === null && performance.now() < this.#heldUntilMs) throw error;
    }
  }

  async current(): Promise<Lease | null> {
    const [line] = await this.#link.once((query) => query<StateLine>(LINE, [this.#name]));
    return currentIn(line);
  }

  async unreleased(): Promise<Lease | null> {
    const [line] = await this.#link.once((query) => query<StateLine>(LINE, [this.#name]));
    return unreleasedIn(line);
  }

  /** Loads the copy before the call, and resolves when its changes are durable. */
  async #throughCopy(call: () => Promise<unknown>): Promise<unknown> {
    await this.#fresh();
    const result = await call();
    await this.#flush();
    return result;
  }

  /** Without the lease, other processes may have written since. */
  async #fresh(): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    if (this.#held !== null) return;
    await this.#link.transaction(async (query) => {
      await query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ");
      const [line] = await query<StateLine>(LINE, [this.#name]);
      if (line === undefined) throw stateError("MR1203", `the state of ${this.#name} is gone`, { reason: "absent" });
      await this.#load(query, line);
      this.#revision = BigInt(line.revision);
    });
  }

  /** In pages: rows of a state may be large, as those of dead letters are. */
  async #load(query: Query, { form, lease_number: leaseNumber }: StateLine): Promise<void> {
    this.#replica.begin();
    let last = { relation: "", number: "0" };
    for (;;) {
      const from = [last.relation, last.number, ROWS_AT_ONCE, BYTES_AT_ONCE];
      const rows = await query<ReceivedRow & { number: string }>(PAGE, [this.#name, ...from]);
      const end = rows.at(-1);
      if (end === undefined) break;
      this.#replica.receive(rows);
      last = end;
    }
    this.#replica.load(form, Number(leaseNumber));
    this.#unsent.clear();
  }

  /** The first holder of a lease replaces rows of an older form by those of the newest. */
  async #rewrite(query: Query): Promise<void> {
    const dump = this.#replica.connection.dump();
    await query("DELETE FROM millrace.state_row WHERE name = $1", [this.#name]);
    await query("UPDATE millrace.state SET form = $2 WHERE name = $1", [this.#name, dump.migration]);
    const rows = Object.entries(dump.relations).flatMap(([relation, list]) =>
      list.map((row) => ({ relation, number: Number(row["rowid"]), content: contentOf(row) })),
    );
    await query("INSERT INTO millrace.state_row SELECT $1, * FROM unnest($2::text[], $3::bigint[], $4::text[])", [
      this.#name,
      ...columnsOf(rows),
    ]);
  }

  /** Resolves when all changes made before the call are on the server. */
  async #flush(): Promise<void> {
    const changes = this.#replica.take();
    for (const change of changes) this.#unsent.set(`${change.relation} ${change.number}`, change);
    if (changes.length > 0) this.#taken++;
    const mine = this.#taken;
    while (this.#durable < mine) {
      if (this.#failure !== null) throw this.#failure;
      // Changes of several calls share one statement while the previous one is under way.
      this.#sending ??= this.#send().finally(() => (this.#sending = null));
      await this.#sending;
    }
  }

  async #send(): Promise<void> {
    const changes = [...this.#unsent.values()];
    const upTo = this.#taken;
    this.#unsent.clear();
    try {
      if (this.#readOnly) throw stateError("MR1202", "the state is open for reading only", { reason: "passing" });
      const until = this.#held === null ? 0 : this.#heldUntilMs - MARGIN_MS;
      const next = this.#revision + (this.#held === null ? 2n : 1n);
      await this.#link.once((query) => this.#put(query, changes, next), until);
      this.#durable = upTo;
    } catch (error) {
      this.#durable = upTo;
      // From here on the copy is ahead of the server. Invariant: the holder of the lease does not work on with such a
      // copy.
      if (this.#held !== null) this.#failure = lasting(error);
      throw this.#failure ?? error;
    }
  }

  async #put(query: Query, changes: readonly Change[], next: bigint): Promise<void> {
    const kept = changes.filter((change) => change.content !== null);
    const gone = changes.filter((change) => change.content === null);
    const [answer] = await query<{ passed: number }>(PUT, [
      this.#name,
      this.#held,
      String(next),
      ...columnsOf(kept),
      ...columnsOf(gone).slice(0, 2),
    ]);
    if (answer?.passed === 1) {
      this.#revision = next;
      return;
    }
    throw await this.#refusal(query);
  }

  /** Why the server did not take what was to be written. */
  async #refusal(query: Query): Promise<Error> {
    const line = await this.#line(query);
    if (this.#isEarlier(line)) return otherThanWritten();
    if (this.#held !== null)
      return stateError("MR1210", `lease ${this.#held} was taken over (the lease is now number ${line.lease_number})`);
    const holder = currentIn(line);
    if (holder !== null) return leaseHeld(holder);
    return stateError("MR1209", "the state was changed by another process meanwhile", {
      kind: "retryable",
      reason: "passing",
    });
  }

  /** Nobody took the lease over, although the server does not have what its holder wrote: the server went back. */
  #isEarlier(line: StateLine): boolean {
    return this.#held !== null && Number(line.lease_number) <= this.#held;
  }

  async #line(query: Query): Promise<StateLine> {
    const [line] = await query<StateLine>(LINE, [this.#name]);
    if (line === undefined) throw stateError("MR1209", "the state's row is gone from its Postgres database");
    return line;
  }

  async #dump(): Promise<StateDump> {
    await this.#fresh();
    const [line] = await this.#link.once((query) => query<StateLine>(LINE, [this.#name]));
    return { ...this.#replica.connection.dump(), leaseNumber: Number(line?.lease_number ?? 0) };
  }

  async #remove(): Promise<void> {
    const gone = await this.#link.once((query) =>
      query("DELETE FROM millrace.state WHERE name = $1 AND lease_number = $2 RETURNING 1", [this.#name, this.#held]),
    );
    if (gone.length === 0) throw stateError("MR1210", `lease ${this.#held} was taken over`);
    this.#held = null;
  }

  async #restore(dump: StateDump): Promise<void> {
    this.#replica.replace(dump);
    await this.#flush();
    const raised = await this.#link.once(async (query) => {
      const given = [this.#name, dump.leaseNumber, this.#held, String(this.#revision)];
      const [line] = await query<{ lease_number: string }>(RAISE, given);
      if (line === undefined) throw await this.#refusal(query);
      return Number(line.lease_number);
    });
    if (this.#held !== null) this.#held = raised;
  }
}

/** Invariant 11: the lease of another holder is none of ours, however late this comes. */
const RAISE = `UPDATE millrace.state SET lease_number = greatest(lease_number, $2::bigint) WHERE name = $1
  AND CASE WHEN $3::bigint IS NULL THEN revision = $4::bigint AND coalesce(expires_at < clock_timestamp(), true)
      ELSE lease_number = $3 END RETURNING lease_number`;

const ROWS_AT_ONCE = 5_000;
const BYTES_AT_ONCE = 8 * 1024 * 1024;

/** The next rows, and at least one. */
const PAGE = `SELECT relation, number, content FROM (
    SELECT relation, number, content,
      sum(octet_length(content)) OVER (ORDER BY relation, number) - octet_length(content) AS bytes_before
    FROM (SELECT relation, number, content FROM millrace.state_row
      WHERE name = $1 AND (relation, number) > ($2, $3::bigint) ORDER BY relation, number LIMIT $4) AS next) AS page
  WHERE bytes_before < $5 ORDER BY relation, number`;

/**
 * One statement, so one transaction. Nothing is written without the lease; if nobody holds it, two processes can't
 * write at once. Invariant 11: the holder numbers what it writes. What was sent again has the same number, and what comes
 * late, or comes to a server that went back to an earlier moment, has one that does not follow. Without the lease the number
 * grows by two: to a holder that stood still meanwhile it is no repetition of its own.
 */
const PUT = `WITH held AS (
    UPDATE millrace.state SET revision = $3::bigint WHERE name = $1
      AND CASE WHEN $2::bigint IS NULL THEN revision = $3::bigint - 2 AND coalesce(expires_at < clock_timestamp(), true)
          ELSE lease_number = $2 AND revision IN ($3::bigint - 1, $3::bigint) END
    RETURNING 1
  ), gone AS (
    DELETE FROM millrace.state_row r USING unnest($7::text[], $8::bigint[]) AS g (relation, number)
    WHERE r.name = $1 AND r.relation = g.relation AND r.number = g.number AND EXISTS (SELECT FROM held)
  ), put AS (
    INSERT INTO millrace.state_row SELECT $1, p.* FROM unnest($4::text[], $5::bigint[], $6::text[]) AS p
    WHERE EXISTS (SELECT FROM held)
    ON CONFLICT (name, relation, number) DO UPDATE SET content = excluded.content
  ) SELECT count(*)::int AS passed FROM held`;

function columnsOf(changes: readonly Change[]): [string[], number[], (string | null)[]] {
  return [changes.map(({ relation }) => relation), changes.map(({ number }) => number), changes.map((c) => c.content)];
}

function currentIn(line: StateLine | undefined): Lease | null {
  const last = unreleasedIn(line);
  return last !== null && last.leftMs > 0 ? last : null;
}

function unreleasedIn(line: StateLine | undefined): Lease | null {
  if (line === undefined || line.left_ms === null) return null;
  return { number: Number(line.lease_number), holder: line.holder, leftMs: Number(line.left_ms) };
}

/** The call was retried for as long as the lease lasted. */
function lasting(error: unknown): unknown {
  const known = findMillraceError(error);
  if (known?.kind !== "retryable") return error;
  const hint = known.hint === undefined ? {} : { hint: known.hint };
  return stateError("MR1215", `${known.message}, for as long as the lease lasts`, { ...hint, cause: error });
}

const FOLDER = join("migrations", "state", "postgres");
/** Two processes that migrate at once wait for each other. */
const LOCK = 7_308_320_948;

/** Creates or upgrades the schema `millrace`, and the row of this name. */
async function migrate(link: Link, name: string): Promise<void> {
  await link.transaction(async (query) => {
    if ((await appliedNumber(query)) < newest()) await apply(query);
    await refuseNewer(query);
    await query("INSERT INTO millrace.state (name, form) VALUES ($1, $2) ON CONFLICT DO NOTHING", [
      name,
      newestMigration(),
    ]);
  });
}

/** For a reader, which changes nothing. */
async function verifyThere(link: Link, name: string): Promise<void> {
  await link.once(async (query) => {
    const applied = await appliedNumber(query);
    if (applied > 0) await refuseNewer(query);
    const found = applied === 0 ? [] : await query("SELECT 1 FROM millrace.state WHERE name = $1", [name]);
    if (found.length === 0)
      throw stateError("MR1203", `the state's Postgres database holds nothing of ${name}`, { reason: "absent" });
  });
}

async function apply(query: Query): Promise<void> {
  await query("SELECT pg_advisory_xact_lock($1)", [LOCK]);
  // IF NOT EXISTS needs CREATE on the database also where the schema exists.
  const [schema] = await query<{ is: boolean }>("SELECT to_regnamespace('millrace') IS NOT NULL AS is");
  if (schema?.is !== true) await query("CREATE SCHEMA millrace");
  await query(
    "CREATE TABLE IF NOT EXISTS millrace.migration (number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL)",
  );
  const applied = await appliedNumber(query);
  for (const { number, name, file } of migrationsIn(FOLDER)) {
    if (number <= applied) continue;
    await query(readFileSync(file, "utf8"));
    await query("INSERT INTO millrace.migration VALUES ($1, $2, clock_timestamp())", [number, name]);
  }
}

async function appliedNumber(query: Query): Promise<number> {
  const [table] = await query<{ is: boolean }>("SELECT to_regclass('millrace.migration') IS NOT NULL AS is");
  if (table?.is !== true) return 0;
  const [row] = await query<{ number: number }>("SELECT coalesce(max(number), 0) AS number FROM millrace.migration");
  return row?.number ?? 0;
}

async function refuseNewer(query: Query): Promise<void> {
  const applied = await appliedNumber(query);
  if (applied > newest())
    throw stateError("MR1206", `the state on Postgres was written by a newer Millrace (migration ${applied})`);
}

function newest(): number {
  return migrationsIn(FOLDER).at(-1)?.number ?? 0;
}
