/** Differences that somebody makes in a target, and the comparison that has to find and repair exactly those. */
import { findMillraceError, isAborted } from "../../src/core/errors.ts";
import { type ReconcileDocument, requestOf } from "../../src/core/contracts/reconciliation.ts";
import type { Row } from "./database.ts";
import type { Target } from "./targets.ts";
import { briefly } from "./tracing.ts";
import { refusedBy, Violation } from "./checks.ts";
import type { World } from "./world.ts";

export type Spoiling = "change" | "remove" | "add";

const REQUEST = requestOf({ patienceMs: 20_000, repairs: true });

/** No transaction has it. */
const ADDED_KEY = "90";

/** Nobody reads a stream back, nor finds a row in it by hand. */
function isComparable({ traits }: Target): boolean {
  return !traits.isStream;
}

/** By somebody who knows nothing of versions: a row keeps the one that it has. */
export function spoil(target: Target, key: string, how: Spoiling): void {
  if (!isComparable(target)) return;
  for (const { shape, rows } of target.tables.values()) {
    const held = rows.get(key);
    if (held !== undefined && how === "change") rows.set(key, { ...held, row: spoilt(held.row) });
    if (how === "remove") rows.delete(key);
    if (held === undefined && how === "add")
      rows.set(key, { row: shape.columns.map((_, i) => (i === 0 ? key : i === 1 ? "0" : "spoilt")), version: 0n });
  }
}

/** One row of each table is changed, one is taken away, and one is added. */
export function spoilSome(target: Target): void {
  const keys = new Set([...target.tables.values()].flatMap(({ rows }) => [...rows.keys()]));
  const [changed = "0", removed = "1"] = keys;
  spoil(target, changed, "change");
  spoil(target, removed, "remove");
  spoil(target, ADDED_KEY, "add");
}

function spoilt(row: Row): Row {
  return row.map((cell, i) => (i < 2 ? cell : "spoilt"));
}

/** Null: it could not be done now. */
export async function compareAndRepair(world: World): Promise<ReconcileDocument | null> {
  const { daemon } = world;
  const running = daemon?.running ?? null;
  if (daemon === null || running === null) return null;
  try {
    // What is dead does not answer.
    const death = new Promise<null>((resolve) => daemon.process.onDeath(() => resolve(null)));
    const found = await Promise.race([running.reconciler.run(REQUEST, running.signal), death]);
    if (found === null) return null;
    if (!world.mayDiffer && told(found).length > 0)
      world.checks.fail(`reconcile reports ${told(found).join("; ")} where nothing can differ`);
    world.say(() => `reconcile: ${told(found).join("; ")}; not comparable: ${JSON.stringify(found.notComparable)}`);
    return found;
  } catch (error) {
    world.say(() => `reconcile: ${briefly(error)}`);
    if (findMillraceError(error) === undefined && !isAborted(error)) throw error;
    return null;
  }
}

/** Of a source and sinks at rest. True: nothing differs any more; false: it is to be tried again. */
export async function proveByComparison(world: World): Promise<boolean> {
  // A comparison of no table proves nothing.
  if (world.server.database.tables.length === 0) return true;
  const letters = await world.beside.deadLetters.list({ state: "waiting" });
  const differing = differences(world, refusedBy(letters));
  const found = await compareAndRepair(world);
  if (found === null || found.notComparable.some(({ isExpected }) => !isExpected)) return false;
  const reported = told(found);
  if (reported.join() !== differing.join())
    throw new Violation(`reconcile reports [${reported.join("; ")}] where [${differing.join("; ")}] differ`);
  return differing.length === 0;
}

function told({ tables }: ReconcileDocument): readonly string[] {
  return tables.flatMap(({ table, sink, ...found }) => line(table, sink, found) ?? []).toSorted();
}

type Counts = Pick<ReconcileDocument["tables"][number], "missing" | "extra" | "different">;

function line(table: string, sink: string, { missing, extra, different }: Counts): string | null {
  if (missing + extra + different === 0) return null;
  return `${table} in ${sink}: ${missing} missing, ${extra} extra, ${different} different`;
}

/** A row of which a letter waits is told apart from these. */
function differences(
  { server: { database }, expected, targets }: World,
  isRefused: ReturnType<typeof refusedBy>,
): readonly string[] {
  const lines = targets.filter(isComparable).flatMap((target) =>
    database.tables.flatMap((table) => {
      const { id } = table.shape;
      const rows = expected(table);
      const held = target.tables.get(id)?.rows ?? new Map<string, { readonly row: Row }>();
      const counts = { missing: 0, extra: 0, different: 0 };
      const isTold = (key: string): boolean => isRefused(target.traits.name, id, key);
      for (const [key, row] of rows) {
        if (isTold(key)) continue;
        const found = held.get(key);
        if (found === undefined) counts.missing++;
        else if (found.row.join() !== row.join()) counts.different++;
      }
      for (const key of held.keys()) if (!rows.has(key) && !isTold(key)) counts.extra++;
      return line(id, target.traits.name, counts) ?? [];
    }),
  );
  return lines.toSorted();
}
