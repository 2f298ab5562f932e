/**
 * Checkpoint and fence: one row per sink in the target, changed in the transaction of the rows that it describes. `steps`
 * counts these transactions, so that a batch whose COMMIT got no answer can be distinguished from one that never
 * happened. `claim` names the session that writes: what a session sent that was given up is refused once another one has
 * entered, also where it arrives late through a pooler.
 */
import type { Checkpoint } from "../../../../src/core/checkpoint.ts";
import { checkpointOfRow } from "../../../kit/held-checkpoint.ts";
import type { Position } from "../../../../src/core/model/position.ts";
import { SCOPE_COLUMNS, ScopeTable } from "../../../warehouse/scopes.ts";
import { METADATA_SCHEMA } from "../../own-tables.ts";
import { quoteLiteral } from "../../../../src/postgres/quote.ts";
import { displaced, fatal, reopening, stateOf } from "../errors.ts";
import { type Answer, StatementFailure } from "../../../../src/postgres/exchange.ts";

export const CHECKPOINT_NAME = { schema: METADATA_SCHEMA, table: "progress" };
export const SCOPES_TABLE = { schema: METADATA_SCHEMA, table: "scopes" };
const SCOPES_NAME = `${METADATA_SCHEMA}.${SCOPES_TABLE.table}`;
export const CHECKPOINT = `${METADATA_SCHEMA}.${CHECKPOINT_NAME.table}`;
/** What each target was when its sink saw it last. */
export const TARGETS = `${METADATA_SCHEMA}.targets`;
/** Who has which table's rows in targets that tables share. */
export const SCOPES = new ScopeTable(SCOPES_NAME, quoteLiteral);
/** Of the checkpoints themselves. Those that a dump put back are another table, and so are the targets beside them. */
export const HOME = `'${CHECKPOINT}'::regclass::oid`;

/** The stored progress of one sink. */
export interface StoredCheckpoint {
  readonly lease: bigint;
  readonly batches: bigint;
  /** Of the session that writes. */
  readonly claim: string;
  readonly checkpoint: Checkpoint | null;
}

/** The claim of a sink of which another one has taken over a table: it looks at what is its own before it writes again. */
const DISPLACED = "displaced";

/** Waits for the transaction in flight; no later one of this claim commits. */
export function displaceWriter(name: string): string {
  return `UPDATE ${CHECKPOINT} SET claim = '${DISPLACED}' WHERE name = ${quoteLiteral(name)}`;
}

/** What the row must hold for a session to write. */
export interface Fence {
  readonly name: string;
  readonly lease: bigint;
  readonly batches: bigint;
  readonly claim: string;
}

/**
 * Held to the end of the transaction: two sessions that create at once would fail each other, even with IF NOT EXISTS.
 * Blocks no batch.
 */
export const LOCK_DDL = `LOCK TABLE ${CHECKPOINT} IN SHARE UPDATE EXCLUSIVE MODE`;

/** `CREATE SCHEMA IF NOT EXISTS` needs CREATE on the database also where the schema exists. */
export const CREATE_METADATA = `BEGIN;
SELECT pg_advisory_xact_lock(7308320947);
DO $$ BEGIN
  IF to_regnamespace('${METADATA_SCHEMA}') IS NULL THEN CREATE SCHEMA ${METADATA_SCHEMA}; END IF;
END $$;
CREATE TABLE IF NOT EXISTS ${CHECKPOINT} (
  name text PRIMARY KEY,
  lease bigint NOT NULL,
  steps bigint NOT NULL,
  epoch integer,
  "commit" bigint,
  "index" bigint,
  tables jsonb,
  bond text,
  backend integer,
  backend_start timestamptz,
  claim text,
  updated_at timestamptz NOT NULL
) WITH (fillfactor = 10);
CREATE TABLE IF NOT EXISTS ${TARGETS} (
  sink text,
  target text,
  relation oid,
  file oid,
  snapshot text NOT NULL,
  home oid NOT NULL,
  PRIMARY KEY (sink, target)
);
CREATE TABLE IF NOT EXISTS ${SCOPES_NAME} (${SCOPE_COLUMNS});
COMMIT`;

export const FIND_CHECKPOINT = `SELECT 1 WHERE to_regclass('${CHECKPOINT}') IS NOT NULL`;

/** A role without CREATE can use existing tables. */
export const FIND_METADATA = `${FIND_CHECKPOINT} AND (num_nulls(to_regclass('${TARGETS}'), to_regclass('${SCOPES_NAME}')) = 0 OR NOT has_schema_privilege(to_regnamespace('${METADATA_SCHEMA}')::oid, 'CREATE'))`;

export const MAY_USE_TARGETS = mayUse(TARGETS);
export const MAY_USE_SCOPES = mayUse(SCOPES_NAME);

/** Not true where the table is missing. */
function mayUse(table: string): string {
  return `SELECT bool_and(has_table_privilege(to_regclass('${table}')::oid, p)) FROM unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS p`;
}

/** Removes the sink's rows, and with the last one everything of Millrace. Not the rows of a process that came later. */
export function removeCheckpoint(fence: Fence, { hasTargets }: { readonly hasTargets: boolean }): string {
  const own = `SELECT name FROM ${CHECKPOINT} WHERE ${isHeld(fence)}`;
  const targets = hasTargets ? ` DELETE FROM ${TARGETS} WHERE sink IN (${own});` : "";
  return `BEGIN; LOCK TABLE ${CHECKPOINT} IN ACCESS EXCLUSIVE MODE;${targets}
DO $$ BEGIN
  IF has_table_privilege(to_regclass('${SCOPES_NAME}')::oid, 'DELETE') THEN DELETE FROM ${SCOPES_NAME} WHERE owner IN (${own}); END IF;
END $$;
DELETE FROM ${CHECKPOINT} WHERE ${isHeld(fence)};
DO $$ BEGIN
  IF EXISTS (SELECT FROM ${CHECKPOINT}) THEN RETURN; END IF;
  DROP TABLE ${CHECKPOINT};
  DROP TABLE IF EXISTS ${TARGETS};
  DROP TABLE IF EXISTS ${SCOPES_NAME};
  IF NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = '${METADATA_SCHEMA}'::regnamespace) THEN
    DROP SCHEMA ${METADATA_SCHEMA};
  END IF;
END $$;
COMMIT`;
}

const COLUMNS = `lease, steps, claim, epoch, "commit", "index", tables, bond`;

const OWN_START = "(SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())";
const END_TIMEOUT_MS = 5_000;

/**
 * Ends the sessions that wrote before us under the same or a lower lease, and marks this one. They may be half-open and still
 * hold rows in the middle of a batch, or their bytes may arrive late: after this they have committed, or never will. A pooler
 * gives a backend to somebody else when its client is gone, and has taken the mark from it by then.
 */
export function replaceWriter(name: string, lease: bigint): string {
  // The start of another role's session may be hidden.
  const wrote = `a.pid = p.backend AND coalesce(a.backend_start, p.backend_start) = p.backend_start AND ${holds(markOf(name))}`;
  return `SELECT pg_terminate_backend(a.pid, ${END_TIMEOUT_MS}) FROM ${CHECKPOINT} p JOIN pg_stat_activity a ON ${wrote} OR ${holds(writerLock(name))} WHERE p.name = ${quoteLiteral(name)} AND p.lease <= ${lease} AND a.pid <> pg_backend_pid() AND ${MAY_END}; SELECT pg_advisory_lock_shared(${markOf(name)})`;
}

/**
 * Whether the server lets us end session `a`, which may be that of a role that the sink had before. Of another session we wait
 * for its locks, and the error names it.
 */
const MAY_END = `((SELECT rolsuper FROM pg_roles WHERE rolname = current_user) OR (NOT (SELECT rolsuper FROM pg_roles WHERE oid = a.usesysid) AND (pg_has_role(a.usesysid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE'))))`;

/** Whether session `a` has the lock. */
function holds(lock: string): string {
  return `EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory' AND l.objsubid = 1 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND ((l.classid::bigint << 32) | l.objid::bigint) = ${lock})`;
}

/** So that other programs that hash the same text for a lock get another one. */
const WRITER_SEED = 7308320948;
const MARK_SEED = 7308320949;

function markOf(name: string): string {
  return `hashtextextended(${quoteLiteral(name)}, ${MARK_SEED})`;
}

function writerLock(name: string): string {
  return `hashtextextended(${quoteLiteral(name)}, ${WRITER_SEED})`;
}

/** Marks a session that writes beside the sink's own one: see `replaceWriter`. */
export function markWriter(name: string): string {
  return `SELECT pg_advisory_lock_shared(${writerLock(name)})`;
}

function isHeld({ name, lease, batches, claim }: Fence): string {
  return `name = ${quoteLiteral(name)} AND lease = ${lease} AND steps = ${batches} AND claim = ${quoteLiteral(claim)}`;
}

/** Fails if another session writes now. It does not wait for the row: `countBatch` does that before the commit. */
export function expectClaim({ name, claim }: Fence): string {
  return `SELECT 1 / count(*) FROM ${CHECKPOINT} WHERE name = ${quoteLiteral(name)} AND claim = ${quoteLiteral(claim)}`;
}

/** Counts a batch that leaves the checkpoint as it is; fails as `advance` does if the fence is broken. */
export function countBatch(fence: Fence): string {
  return `WITH moved AS (UPDATE ${CHECKPOINT} SET steps = steps + 1, updated_at = clock_timestamp() WHERE ${isHeld(fence)} RETURNING 1) SELECT 1 / count(*) FROM moved`;
}

/** Takes over the fence; returns no row if a higher lease holds it. */
export function takeLease({ name, lease, claim }: Fence): string {
  return `INSERT INTO ${CHECKPOINT} AS p (name, lease, steps, claim, backend, backend_start, updated_at) VALUES (${quoteLiteral(name)}, ${lease}, 0, ${quoteLiteral(claim)}, pg_backend_pid(), ${OWN_START}, clock_timestamp())
ON CONFLICT (name) DO UPDATE SET lease = excluded.lease, claim = excluded.claim, backend = excluded.backend, backend_start = excluded.backend_start, updated_at = excluded.updated_at WHERE p.lease <= excluded.lease
RETURNING ${COLUMNS}`;
}

/** Registers a new session of the process that holds the lease. */
export function enterSession({ name, lease, claim }: Fence): string {
  return `UPDATE ${CHECKPOINT} SET claim = ${quoteLiteral(claim)}, backend = pg_backend_pid(), backend_start = ${OWN_START} WHERE name = ${quoteLiteral(name)} AND lease = ${lease} RETURNING ${COLUMNS}`;
}

export function selectCheckpoint(name: string): string {
  return `SELECT ${COLUMNS} FROM ${CHECKPOINT} WHERE name = ${quoteLiteral(name)}`;
}

/** The columns that the fence compares, without the tables. */
export function selectFence(name: string): string {
  return `SELECT lease, steps, claim FROM ${CHECKPOINT} WHERE name = ${quoteLiteral(name)}`;
}

/** Holds the fence to the end of the transaction. */
export function lockLease(name: string): string {
  return `${selectFence(name)} FOR UPDATE`;
}

export function readCheckpoint(answer: Answer): StoredCheckpoint | null {
  const row = answer.rows[0];
  if (row === undefined) return null;
  const [lease, batches, claim, epoch, commit, index, tables, bond] = row;
  const counted = { lease: BigInt(lease ?? 0), batches: BigInt(batches ?? 0), claim: claim ?? "" };
  return { ...counted, checkpoint: checkpointOfRow([epoch, commit, index, tables, bond]) };
}

/** The expected state of the row, and its state after this batch: the first statement of every batch. */
export interface Advance extends Fence {
  readonly position: Position;
  readonly bond: string;
  /** Null if they are already stored. */
  readonly tables: string | null;
  /** What comes before the rows of the batch. */
  readonly first: readonly string[];
}

/** Of the values of an advance, in their order. */
const TYPES = ["text", "bigint", "bigint", "text", "integer", "bigint", "bigint", "text", "jsonb"] as const;

/**
 * Locks the row, compares it with what this process wrote last, and advances it. If it differs, nothing is updated, and
 * the division fails, and with it the whole transaction. Always the first statement of its message, so that its failure
 * differs from the same failure in a trigger of the target. (A BEGIN after it takes it into the new transaction.)
 */
function fenceSql(values: readonly string[]): string {
  const [name, lease, batches, claim, epoch, commit, index, bond, tables] = values.map(
    (value, i) => `${value}::${TYPES[i]}`,
  );
  return `WITH moved AS (UPDATE ${CHECKPOINT} SET steps = steps + 1, epoch = ${epoch}, "commit" = ${commit}, "index" = ${index}, bond = ${bond}${tables === undefined ? "" : `, tables = ${tables}`}, updated_at = clock_timestamp() WHERE name = ${name} AND lease = ${lease} AND steps = ${batches} AND claim = ${claim} RETURNING 1) SELECT 1 / count(*) FROM moved`;
}

const FENCE_BROKEN = "22012";

/** The fence rejected a batch; the sink looks up who holds the row. */
export class FenceBroken extends Error {}

/** Waits for the answer to a message that begins with the fence. */
export async function behindFence<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    const first = error instanceof StatementFailure && error.completed === 0;
    throw first && stateOf(error) === FENCE_BROKEN ? new FenceBroken("the fence is broken", { cause: error }) : error;
  }
}

export function advance(step: Advance): string {
  return [fenceSql(advanceParameters(step).map(quoteLiteral)), ...step.first].join("; ");
}

/** The same, prepared, with the name of the statement. */
export function advancePrepared(step: Advance): { readonly id: string; readonly sql: string } {
  const sql = fenceSql(advanceParameters(step).map((_, i) => `$${i + 1}`));
  return { id: step.tables === null ? "advance" : "advance tables", sql };
}

export function advanceParameters({ name, lease, batches, claim, position, bond, tables }: Advance): readonly string[] {
  const at = [position.epoch, position.commit, position.index].map(String);
  return [name, String(lease), String(batches), claim, ...at, bond, ...(tables === null ? [] : [tables])];
}

/** Nobody else has written under the sink's name. */
export function isDisplaced(found: StoredCheckpoint | null, expected: Fence): boolean {
  return found?.claim === DISPLACED && found.lease === expected.lease && found.batches === expected.batches;
}

/** Why the fence rejected a batch. */
export function fenceError(found: StoredCheckpoint | null, expected: Fence) {
  const { name } = expected;
  if (found === null) {
    return reopening(
      "MR3110",
      `the progress of ${name} is no longer in the target`,
      "The target was emptied or replaced.",
    );
  }
  if (found.lease < expected.lease || (found.lease === expected.lease && found.batches < expected.batches)) {
    return reopening(
      "MR3109",
      `the target of ${name} was restored from an older copy`,
      "Millrace checks what it lacks.",
    );
  }
  if (isDisplaced(found, expected)) {
    return displaced(name);
  }
  if (found.lease === expected.lease && found.batches === expected.batches) {
    return reopening(
      "MR3109",
      `another session writes to ${name} in this process' place`,
      "A session that was given up has entered late; Millrace enters again.",
    );
  }
  const why =
    found.lease > expected.lease
      ? `a process with the higher lease ${found.lease} has taken over`
      : `its checkpoint is not what this process wrote last (${found.batches} steps, expected ${expected.batches})`;
  return fatal("MR3109", `another process writes to ${name}: ${why}`, "Stop the other daemon of this name.");
}
