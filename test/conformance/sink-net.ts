/** Changes as a source sends them, through the runtime's compaction, compared with a model of the source's table. */
import { expect, test } from "vitest";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { Compactor } from "../../src/runtime/compaction/compaction.ts";
import { blockOf, type Change } from "../support/model/blocks.ts";
import type { SinkHarness } from "./sink.ts";
import { users } from "./sink-rows.ts";
import { checkpointAt, Reports, Stage, UNCHANGED } from "./stage.ts";

const SEEDS = [1, 2, 3];

export function compactTests(harness: SinkHarness): void {
  test("twenty changes of one key, with key changes, in one transaction", async () => {
    await using stage = await Stage.of(harness, users);
    await apply(stage, users, 10n, [{ table: users, op: "c", after: ["1", "a", "toast"] }]);
    const changes: Change[] = [];
    for (let i = 0; i < 10; i++) {
      changes.push({ table: users, op: "u", after: ["1", `n${i}`, UNCHANGED] });
      changes.push({ table: users, op: "u", after: ["2", `m${i}`, UNCHANGED], before: ["1", null, null] });
      changes.push({ table: users, op: "u", after: ["1", UNCHANGED, UNCHANGED], before: ["2", null, null] });
    }
    changes.push({ table: users, op: "u", after: ["7", "end", UNCHANGED], before: ["1", null, null] });
    await apply(stage, users, 20n, changes);
    await stage.expectRows(users, [["7", "end", "toast"]]);
  });

  test("insert, delete and insert again in one transaction", async () => {
    await using stage = await Stage.of(harness, users);
    await apply(stage, users, 10n, [
      { table: users, op: "c", after: ["1", "a", "b"] },
      { table: users, op: "d", before: ["1", null, null] },
      { table: users, op: "c", after: ["1", "c", null] },
      { table: users, op: "c", after: ["2", "x", null] },
      { table: users, op: "d", before: ["2", null, null] },
    ]);
    await stage.expectRows(users, [["1", "c", null]]);
  });

  test.each(SEEDS)("a random log, read again from random places, ends in the source's rows (seed %i)", async (seed) => {
    await using stage = await Stage.of(harness, users);
    const random = generator(seed);
    const source = new Map<string, [string | null, string | null]>();
    const log: Change[][] = Array.from({ length: 30 }, (_, i) => transaction(source, random, i));
    for (let i = 0; i < log.length;) {
      const size = 1 + random(4);
      await applyLog(stage, log, i, i + size);
      i += size;
      if (random(5) === 0) {
        await stage.restart(users);
        i = Math.max(0, i - random(6));
      }
    }
    await stage.expectRows(
      users,
      [...source].map(([id, [name, note]]) => [id, name, note]),
    );
  });

  async function apply(stage: Stage, table: TableVersion, at: bigint, changes: readonly Change[]): Promise<void> {
    const [first, ...rest] = changes;
    if (first === undefined) return;
    const block = blockOf([{ ...first, commit: at }, ...rest]);
    const compacted = new Compactor(stage.sink.form).compact(
      [{ block, from: 0, to: block.count }],
      (other) => other === table,
    );
    expect(compacted.untold).toEqual([]);
    const reports = new Reports();
    await stage.apply({ kind: "rows", tables: compacted.tables, checkpoint: checkpointAt(at + 1n) }, reports);
    expect(reports.incompletes).toEqual([]);
    expect(reports.poisons).toEqual([]);
  }

  /** Several transactions in one batch, each in its own block. A base that a replay finds missing is read again. */
  async function applyLog(stage: Stage, log: readonly Change[][], from: number, to: number): Promise<void> {
    const blocks = log
      .slice(from, to)
      .map((changes, i) => blockOf(changes.map((change) => ({ ...change, commit: BigInt(1000 + (from + i) * 10) }))));
    const compacted = new Compactor(stage.sink.form).compact(
      blocks.map((block) => ({ block, from: 0, to: block.count })),
      () => true,
    );
    const end = BigInt(1000 + (Math.min(to, log.length) - 1) * 10 + 1);
    await stage.apply({ kind: "rows", tables: compacted.tables, checkpoint: checkpointAt(end) }, new Reports());
  }
}

/**
 * One transaction against the model. Updates leave the note unchanged now and then. A replay may find such a row deleted
 * (by a later transaction that the sink already has); that later transaction then comes again, so the end is the same.
 */
function transaction(
  source: Map<string, [string | null, string | null]>,
  random: (below: number) => number,
  ordinal: number,
): Change[] {
  const changes: Change[] = [];
  const text = () => (random(6) === 0 ? null : `t${ordinal}.${random(1000)}`);
  for (let n = 1 + random(12); n > 0; n--) {
    const id = `${random(12)}`;
    const row = source.get(id);
    if (row === undefined) {
      const cells: [string | null, string | null] = [text(), text()];
      source.set(id, cells);
      changes.push({ table: users, op: "c", after: [id, ...cells] });
      continue;
    }
    const choice = random(5);
    if (choice === 0) {
      source.delete(id);
      changes.push({ table: users, op: "d", before: [id, null, null] });
    } else if (choice === 1) {
      const target = `${random(12)}`;
      if (source.has(target)) continue;
      const cells: [string | null, string | null] = [text(), row[1]];
      source.delete(id);
      source.set(target, cells);
      changes.push({ table: users, op: "u", after: [target, ...cells], before: [id, null, null] });
    } else {
      const cells: [string | null, string | null] = [text(), choice === 2 ? row[1] : text()];
      source.set(id, cells);
      const sent = choice === 2 ? ([id, cells[0], UNCHANGED] as const) : ([id, ...cells] as const);
      changes.push({ table: users, op: "u", after: [...sent] });
    }
  }
  return changes;
}

/** A small generator whose sequence depends on the seed alone. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return (state >>> 8) % below;
  };
}
