/**
 * A ClickHouse sink before replicas that answer now and then as they did some time ago, whatever it does: its rows are those that
 * were written, and nothing counts as missing, lost or foreign. The contract of a sink knows no old answer, so what the runtime is
 * told must be true: the connector alone protects it, and the simulation has no such fault.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import type { Batch } from "../../src/core/model/batch.ts";
import { findMillraceError } from "../../src/core/errors.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { checkpointAt, patch, put, remove, Reports, rowsBatch, timeout, type Write } from "../conformance/stage.ts";
import type { KeptForm } from "../conformance/sink.ts";
import { tableVersion, UNCHANGED } from "../support/model/blocks.ts";
import { isLongForm } from "../support/run/service-suffixes.ts";
import { Random, testSeed } from "../support/run/random.ts";
import { clickhouseReplicas } from "../support/warehouses/clickhouse-replicas.ts";
import { clickhouseTarget } from "../support/warehouses/clickhouse-target.ts";

const STEP_COUNT = isLongForm() ? 150 : 30;
const KEY_COUNT = 6;
/** Of lists, while one thing is done: however slow the machine is, the sink asks once more. */
const OLD_ANSWERS_MAX = 1;
const TRIES_MAX = 3;

const FORMS: readonly KeptForm[] = new Random(testSeed()).some([
  { deletes: "hard", mode: "mirror" },
  { deletes: "soft", mode: "mirror" },
  { deletes: "hard", mode: "history" },
]);

/** With so many columns beside the first three. */
function shapeOf(table: string, more: number): TableVersion {
  const added = Array.from({ length: more }, (_, i): [string, string] => [`more${i}`, "text"]);
  const columns = { id: "int4", name: "text", note: "text", ...Object.fromEntries(added) };
  return tableVersion({ table, columns, version: more + 1 });
}

type Cells = (string | null)[];

class Table {
  readonly name: string;
  more = 0;
  shape: TableVersion;
  readonly rows = new Map<string, { readonly cells: Cells; readonly at: bigint }>();

  constructor(name: string) {
    this.name = name;
    this.shape = shapeOf(name, 0);
  }

  widen(): TableVersion {
    this.shape = shapeOf(this.name, ++this.more);
    for (const { cells } of this.rows.values()) cells.push(null);
    return this.shape;
  }
}

test.for(FORMS)("$mode, $deletes deletes: no old answer is taken for what is so", async (form) => {
  const random = new Random(testSeed());
  let oldLeft = 0;
  const isOld = (): boolean => oldLeft > 0 && random.chance(0.4) && oldLeft-- > 0;
  await using gateway = await clickhouseReplicas({ isOld, keeps: () => random.chance(0.5) });
  const { state } = gateway;
  await using target = await clickhouseTarget(form, gateway.url);
  const tables = [new Table("users"), new Table("orders")];
  const complete = Object.fromEntries(tables.map(({ shape }) => [shape.id, "1"]));
  const said: string[] = [];
  /** As the runtime does it: what may pass is tried again. */
  const done = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
    said.push(what);
    state.isBehind = random.chance(0.6);
    oldLeft = random.below(OLD_ANSWERS_MAX + 1);
    for (let tries = 1; ; tries++) {
      try {
        return await work();
      } catch (error) {
        const known = findMillraceError(error);
        expect({ kind: known?.kind, error, said }).toMatchObject({ kind: "retryable" });
        if (tries === TRIES_MAX) throw error;
      }
    }
  };
  let [lease, at, stored] = [0, 0n, 0n];
  const all = () => tables.map(({ shape }) => shape);
  const begin = async () => {
    const sink = await target.makeSink();
    const held = await done("open", () => sink.open(++lease, timeout()));
    expect({ commit: held?.position.commit ?? 0n, said }).toEqual({ commit: stored, said });
    const missing = await done("missing", () => sink.presence!.missing(all(), timeout()));
    const foreign = await done("foreign", () => sink.presence!.foreign!(all(), timeout()));
    expect({ missing, foreign, said }).toEqual({ missing: stored === 0n ? all() : [], foreign: [], said });
    await done("prepare", () => sink.prepare(all(), timeout()));
    return sink;
  };
  let sink = await begin();
  const apply = async (what: string, batch: Batch): Promise<void> => {
    const reports = new Reports();
    const checkpoint = checkpointAt(at, complete);
    await done(what, () => sink.apply({ ...batch, checkpoint }, reports, timeout()));
    stored = at;
    expect({ incompletes: reports.incompletes, said }).toEqual({ incompletes: [], said });
  };

  const steps: Readonly<Record<string, (table: Table) => Promise<void>>> = {
    async write({ shape, rows, more }) {
      const ids = new Set(Array.from({ length: 1 + random.below(3) }, () => String(1 + random.below(KEY_COUNT))));
      const entries = [...ids].map((id): Write => {
        const row = rows.get(id);
        const isPatch = row !== undefined && random.chance(0.5);
        if (row !== undefined && !isPatch && random.chance(0.4)) {
          rows.delete(id);
          return remove([id, ...Array<null>(2 + more).fill(null)]);
        }
        const others = Array.from({ length: more }, (_, i) => `m${i}@${at}`);
        const cells = [id, `n@${at}`, isPatch ? row.cells[2]! : `long@${at}`, ...others];
        rows.set(id, { cells, at });
        return isPatch ? patch([id, cells[1]!, UNCHANGED, ...others]) : put(cells);
      });
      await apply(`write ${shape.table} ${entries.length}`, rowsBatch(at, [shape, entries]));
    },
    async truncate({ shape, rows }) {
      rows.clear();
      const [version, checkpoint] = [rowVersion(1, at), checkpointAt(at)];
      await apply(`truncate ${shape.table}`, { kind: "truncate", table: shape, version, checkpoint });
    },
    async sweep({ shape, rows }) {
      const below = at - BigInt(random.below(30));
      for (const [id, row] of rows) if (row.at < below) rows.delete(id);
      const sweeps = [{ table: shape, below: rowVersion(1, below) }];
      await apply(`sweep ${shape.table}`, { kind: "sweep", sweeps, checkpoint: checkpointAt(at) });
    },
    async widen(table) {
      const before = table.shape;
      const after = table.widen();
      const carries = await done("carries", () => sink.evolution!.carries(before, after, timeout()));
      expect({ carries, said }).toEqual({ carries: true, said });
      await done(`widen ${after.table}`, () => sink.prepare([after], timeout()));
    },
    async restart() {
      await sink.close();
      sink = await begin();
    },
    async verify() {
      await done("verify", () => sink.verify(timeout()));
    },
    async compare({ shape, rows }) {
      await using inspection = await sink.comparison!.inspect(timeout());
      const keys = [...rows.keys()].map((id) => [id]);
      const found = await done(`compare ${shape.table}`, () => inspection.rows(shape, keys, timeout()));
      const ids = new Set(found.map(({ cells }) => cells[0]));
      expect({ ids, said }).toEqual({ ids: new Set(rows.keys()), said });
    },
    async highest({ shape, rows }) {
      const highest = await done("highest", () => sink.rows!.highestVersion([shape], timeout()));
      for (const row of rows.values()) expect(highest).toBeGreaterThanOrEqual(rowVersion(1, row.at));
    },
  };
  const weights = { write: 10, truncate: 1, sweep: 2, widen: 1, restart: 2, verify: 2, compare: 2, highest: 1 };
  const bag = Object.entries(weights).flatMap(([name, weight]) => Array<string>(weight).fill(name));
  const expectRows = async ({ shape, rows }: Table): Promise<void> => {
    const found = (await target.readRows(shape)).map(({ cells }) => cells);
    const sorted = (list: readonly (readonly (string | null)[])[]) =>
      list.map((cells) => JSON.stringify(cells)).toSorted();
    expect({ [shape.table]: sorted(found), said }).toEqual({
      [shape.table]: sorted([...rows.values()].map(({ cells }) => cells)),
      said,
    });
  };
  for (let step = 0; step < STEP_COUNT; step++) {
    at += 10n;
    const table = random.pick(tables);
    // Every table has had a row by then, so that its loss would show.
    await steps[step < tables.length ? "write" : random.pick(bag)]!(step < tables.length ? tables[step]! : table);
    await apply("checkpoint", { kind: "checkpoint", checkpoint: checkpointAt(at) });
    await expectRows(table);
  }
  expect(state.answersBehind).toBeGreaterThan(0);

  // What is really so is told by the first answer of now: somebody emptied a table while no sink was there.
  const [emptied] = tables;
  await steps["write"]!(emptied!);
  await sink.close();
  await target.query(`TRUNCATE TABLE public.${emptied!.name}`);
  [state.isBehind, oldLeft] = [false, 0];
  sink = await target.makeSink();
  await sink.open(++lease, timeout());
  const missing = await sink.presence!.missing(all(), timeout());
  expect({ missing: missing.map(({ table }) => table), said }).toEqual({ missing: [emptied!.name], said });
  await sink.close();
});
