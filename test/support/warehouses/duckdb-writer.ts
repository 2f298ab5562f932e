/**
 * A process that writes numbered batches into a DuckDB file until it is killed: `node duckdb-writer.ts FILE LEASE`. Batch n
 * counts in row 0, whose text it leaves unchanged, writes row n, deletes row n - 5, and replaces all bulk rows.
 */
import { duckdbSink } from "../../../connectors/duckdb/sink.ts";
import type { Outcome } from "../../../src/core/contracts/sink.ts";
import { blockOf, type Cell, type Change, tableVersion, UNCHANGED, writesOf } from "../model/blocks.ts";
import { checkpointOf } from "../daemon/complete.ts";

export const batches = tableVersion({
  table: "steps",
  columns: { id: "int8", n: "int8", body: "text", tags: "text[]" },
});

export const BULK_COUNT = 2_000;
export const BULK_BASE = 1_000_000;
export const KEPT = 5;

export function changesOf(n: number): Change[] {
  const row = (id: number, value: number): Cell[] => [`${id}`, `${value}`, `body of ${id}`, `{a,"${value}"}`];
  const commit = BigInt(n);
  const changes: Change[] = [
    n === 1
      ? { table: batches, op: "c", commit, after: row(0, 1) }
      : { table: batches, op: "u", commit, after: ["0", `${n}`, UNCHANGED, `{a,"${n}"}`] },
    { table: batches, op: "c", commit, after: row(n, n) },
  ];
  if (n > KEPT) changes.push({ table: batches, op: "d", commit, before: [`${n - KEPT}`, null, null, null] });
  for (let i = 0; i < BULK_COUNT; i++) {
    const id = BULK_BASE + (i + (n % 2) * BULK_COUNT);
    changes.push({ table: batches, op: "c", commit, after: row(id, n) });
    const old = BULK_BASE + (i + ((n + 1) % 2) * BULK_COUNT);
    changes.push({ table: batches, op: "d", commit, before: [`${old}`, null, null, null] });
  }
  return changes;
}

/** Rows as `readRows` shows them after batch n. */
export function expectedAfter(n: number): string[] {
  const row = (id: number, value: number): string => `${id} ${value} body of ${id} ["a","${value}"]`;
  const kept = Array.from({ length: Math.min(n, KEPT) }, (_, i) => row(n - i, n - i));
  const bulk = Array.from({ length: BULK_COUNT }, (_, i) => row(BULK_BASE + i + (n % 2) * BULK_COUNT, n));
  return [row(0, n), ...kept, ...bulk];
}

export const refuse: Outcome = {
  incomplete: () => Promise.reject(new Error("no row may be incomplete here")),
  poison: async ([refused]) => {
    if (refused !== undefined) throw refused.error;
  },
};

async function write(path: string, lease: number): Promise<void> {
  const { signal } = new AbortController();
  const sink = duckdbSink({ name: "w", owner: "shop/w", path, memoryLimit: "256MB", threads: 2, schema: undefined });
  const held = await sink.open(lease, signal);
  await sink.prepare([batches], signal);
  for (let n = Number(held?.position.commit ?? 0n) + 1; ; n++) {
    const block = blockOf(changesOf(n));
    const checkpoint = checkpointOf({ epoch: 1, commit: BigInt(n), index: 0 });
    await sink.apply({ kind: "rows", tables: [writesOf(batches, block)], checkpoint }, refuse, signal);
    process.stdout.write(`${n}\n`);
  }
}

const [path, lease] = process.argv.slice(2);
if (import.meta.main && path !== undefined) await write(path, Number(lease));
