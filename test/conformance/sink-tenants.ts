/** What a sink promises of tables that share a target: what happens to the rows of one leaves alone those of the others. */
import { describe, expect, test, type TestContext } from "vitest";
import type { KeyedTable, TableVersion } from "../../src/core/model/schema.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import { tableVersion, type ColumnSpec, type TableSpec } from "../support/model/blocks.ts";
import { formOf, type SinkHarness } from "./sink.ts";
import {
  checkpointAt,
  type Cells,
  failure,
  patch,
  put,
  remove,
  rowsBatch,
  Stage,
  timeout,
  UNCHANGED,
  type Write,
} from "./stage.ts";

const COLUMNS: readonly ColumnSpec[] = [
  ["id", "int8"],
  ["note", "text"],
];

interface TenantSpec extends Partial<TableSpec> {
  readonly columns?: readonly ColumnSpec[];
}

/** A tenant's table as a route shows it to the sink. */
function tenant(name: string, spec: TenantSpec = {}): KeyedTable {
  const table = tableVersion({
    schema: "shared",
    table: "orders",
    key: ["tenant", "id"],
    ...spec,
    columns: [...(spec.columns ?? COLUMNS), ["tenant", "text"]],
  });
  const { relation = name.length } = spec;
  return { ...table, id: `tenant_${name}.orders`, relation, scope: { tenant: name } };
}

/** The table of another daemon, which no route names: what the tenants share has its name. */
const alone: TableVersion = tableVersion({
  schema: "shared",
  table: "orders",
  key: ["id"],
  columns: [
    ["id", "int4"],
    ["note", "text"],
  ],
  relation: 77,
});
/** With all columns of the tenants' and their key. */
const alike: TableVersion = tableVersion({
  schema: "shared",
  table: "orders",
  key: ["tenant", "id"],
  columns: [...COLUMNS, ["tenant", "text"]],
  relation: 78,
});

const acme = tenant("acme");
const other = tenant("it's");

/** Tables that share no target have nothing to promise. */
async function shared(
  harness: SinkHarness,
  context: TestContext,
  tables: readonly KeyedTable[] = [acme, other],
): Promise<Stage> {
  const stage = await Stage.of(harness);
  if (stage.sink.scopedBy === undefined || stage.sink.scopedBy === "names") {
    await stage[Symbol.asyncDispose]();
    context.skip("each table has a target of its own");
  }
  expect(new Set(tables.map((table) => stage.sink.target(table)))).toHaveProperty("size", 1);
  await stage.prepare(...tables);
  return stage;
}

const rows = (name: string, ...notes: readonly string[]): string[][] =>
  notes.map((note, i) => [`${i + 1}`, note, name]);

export function tenantTests(harness: SinkHarness): void {
  const isStream = formOf(harness) === "stream";

  /** All rows of the target, whose columns are those of `acme`. */
  const expectAll = async (stage: Stage, ...expected: readonly (readonly Cells[])[]): Promise<void> => {
    if (!isStream) return await stage.expectRows(acme, expected.flat());
    for (const [i, table] of [acme, other].entries()) await stage.expectRows(table, expected[i]!);
  };

  test("tables with one key share a target", async (context) => {
    await using stage = await shared(harness, context);
    await stage.write(
      acme,
      10n,
      rows("acme", "a", "b").map((row) => put(row, { fresh: true })),
    );
    await stage.write(
      other,
      20n,
      rows("it's", "c", "d").map((row) => put(row, { fresh: true })),
    );
    await stage.write(acme, 30n, [put(["1", "e", "acme"]), remove(["2", null, "acme"])]);
    await stage.write(other, 40n, [patch(["2", UNCHANGED, "it's"])]);
    await expectAll(stage, rows("acme", "e"), rows("it's", "c", "d"));
  });

  test("one is emptied, swept, cleared, prepared again", async (context) => {
    await using stage = await shared(harness, context);
    const fill = async (at: bigint): Promise<void> => {
      await stage.write(
        acme,
        at,
        rows("acme", "a", "b").map((row) => put(row)),
      );
      await stage.write(
        other,
        at + 1n,
        rows("it's", "c").map((row) => put(row)),
      );
    };
    await fill(10n);
    await stage.apply({ kind: "truncate", table: acme, version: rowVersion(1, 20n), checkpoint: checkpointAt(21n) });
    await expectAll(stage, [], rows("it's", "c"));
    await fill(30n);
    const sweeps = [{ table: other, below: rowVersion(1, 40n) }];
    await stage.apply({ kind: "sweep", sweeps, checkpoint: checkpointAt(41n) });
    await expectAll(stage, rows("acme", "a", "b"), []);
    await fill(50n);
    if (!isStream) {
      await stage.sink.rows?.expel([acme], rowVersion(1, 1n), timeout());
      await expectAll(stage, [], rows("it's", "c"));
      await stage.prepare(acme, other);
      const highest = await stage.sink.rows?.highestVersion([other], timeout());
      expect(highest ?? rowVersion(1, 51n)).toBe(rowVersion(1, 51n));
      await stage.write(
        acme,
        60n,
        rows("acme", "a", "b").map((row) => put(row)),
      );
    }
    await stage.restart(other, acme);
    const both = [
      [acme, [put(["1", "a", "acme"])]],
      [other, [put(["1", "c", "it's"])]],
    ] as const;
    await stage.apply(rowsBatch(70n, ...both));
    expect(await stage.sink.presence?.missing([acme, other], timeout())).toEqual([]);
    await expectAll(stage, rows("acme", "a", "b"), rows("it's", "c"));
  });

  test("one gets a column, and others come later", async (context) => {
    await using stage = await shared(harness, context);
    await stage.write(
      acme,
      10n,
      rows("acme", "a").map((row) => put(row)),
    );
    await stage.write(
      other,
      11n,
      rows("it's", "c").map((row) => put(row)),
    );
    const wide = tenant("acme", { columns: [...COLUMNS, ["more", "int4"]], version: 2, identities: { tenant: 0 } });
    const late = tenant("late");
    await stage.prepare(wide);
    await stage.write(wide, 20n, [put(["2", "b", "7", "acme"])]);
    await stage.prepare(late);
    await stage.write(
      late,
      30n,
      rows("late", "x").map((row) => put(row)),
    );
    await stage.write(other, 40n, [put(["2", "d", "it's"])]);
    if (isStream) {
      await stage.expectRows(other, rows("it's", "c", "d"));
      await stage.expectRows(late, rows("late", "x"));
      return;
    }
    const acmes = [
      ["1", "a", null, "acme"],
      ["2", "b", "7", "acme"],
    ];
    const others = [...rows("it's", "c", "d"), ...rows("late", "x")].map(([id, note, name]) => [
      id!,
      note!,
      null,
      name!,
    ]);
    await stage.expectRows(wide, [...acmes, ...others]);
  });

  describe("of two daemons one has a table that has the target alone, and one a table that shares it", () => {
    const two = async (context: TestContext): Promise<readonly [Stage, ...KeyedTable[]]> => {
      const stage = await Stage.of(harness);
      const { scopedBy } = stage.sink;
      if (scopedBy === undefined || isStream) {
        await stage[Symbol.asyncDispose]();
        context.skip(isStream ? "a target has one writer" : "each table has a target of its own");
      }
      const spec = scopedBy === "names" ? { key: ["id"] } : {};
      return [stage, tenant("acme", spec), tenant("it's", spec)];
    };
    const expectRefused = async (first: Stage, table: TableVersion, why: RegExp): Promise<void> => {
      await using second = await first.beside("other");
      // As the runtime asks before.
      await second.sink.presence?.foreign?.([table], timeout());
      const refused = await failure(second.prepare(table));
      expect(refused).toMatchObject({
        code: "MR3106",
        kind: "fatal",
        table: table.id,
        message: expect.stringMatching(why),
        hint: expect.stringContaining("another name by `into`"),
      });
      const { message, hint } = refused;
      const finding = { level: "error", what: `MR3106: ${message}`, fix: hint };
      expect(await first.target.check?.([table], "other", timeout())).toContainEqual(expect.objectContaining(finding));
    };

    test("the one that comes later with the former is refused", async (context) => {
      const [first, one, another] = await two(context);
      await using stage = first;
      await stage.prepare(one!, another!);
      await stage.write(one!, 10n, [put(["1", "a", "acme"]), put(["3000000000", "b", "acme"])]);
      await stage.write(another!, 20n, [put(["1", "c", "it's"])]);
      for (const table of [alone, alike])
        await expectRefused(stage, table, /shared\W+orders\W.*is shared by tables that routes tell apart/);
      await stage.sink.verify(timeout());
      await stage.write(one!, 30n, [put(["1", "d", "acme"])]);
      await stage.restart(one!, another!);
      await stage.write(another!, 40n, [put(["2", "e", "it's"])]);
      await stage.expectRows(alone, [
        ["1", "d"],
        ["3000000000", "b"],
        ["1", "c"],
        ["2", "e"],
      ]);
    });

    test.for([
      ["of another key", alone],
      ["of the same key", alike],
    ] as const)("the one that comes later with the latter is refused: %s", async ([, table], context) => {
      const [first, one] = await two(context);
      await using stage = first;
      const row = (id: string, note: string): Write => put([id, note, "acme"].slice(0, table.columns.length));
      await stage.prepare(table);
      await stage.write(table, 10n, [row("1", "a"), row("2", "b")]);
      await expectRefused(stage, one!, /shared\W+orders\W.*is one table's alone/);
      await stage.sink.verify(timeout());
      await stage.write(table, 30n, [row("1", "d")]);
      await stage.restart(table);
      await stage.write(table, 40n, [row("3", "e")]);
      expect((await stage.sink.presence?.foreign?.([table], timeout())) ?? []).toEqual([]);
      await stage.expectRows(alone, [
        ["1", "d"],
        ["2", "b"],
        ["3", "e"],
      ]);
    });
  });

  test("`check` names the daemon that has a tenant", async (context) => {
    await using stage = await shared(harness, context, [acme]);
    const { presence } = stage.sink;
    const { target } = stage;
    context.skip(presence?.keepOnly === undefined, "a tenant has no owner there");
    const taken = async (daemon: string) =>
      (await target.check!([acme, other], daemon, timeout())).filter(({ what }) => what.startsWith("MR3121"));
    expect(await taken("shop")).toEqual([]);
    const finding = {
      level: "error",
      what: expect.stringMatching(/the rows of tenant_acme\.orders in the target that it shares belong to shop\//),
      fix: expect.stringContaining("millrace snapshot start --tables tenant_acme.orders"),
    };
    expect(await taken("other")).toEqual([expect.objectContaining(finding)]);
    await presence!.keepOnly!([], timeout());
    expect(await taken("other")).toEqual([]);
  });

  test("a comparison sees the rows of one", async (context) => {
    await using stage = await shared(harness, context);
    context.skip(stage.sink.comparison === undefined, "what the sink holds is not compared");
    await stage.write(
      acme,
      10n,
      rows("acme", "a", "b").map((row) => put(row)),
    );
    await stage.write(
      other,
      11n,
      rows("it's", "c").map((row) => put(row)),
    );
    await using inspection = await stage.sink.comparison!.inspect(timeout());
    for (const [table, name, count] of [
      [acme, "acme", 2],
      [other, "it's", 1],
    ] as const) {
      const keys = Array.from({ length: count }, (_, i) => [name, `${i + 1}`]);
      const ids = keys.map((key) => inspection.id(table, key));
      const listed = [];
      for await (const batch of inspection.keys(table, timeout())) listed.push(...batch.map(({ id }) => id));
      expect(listed.toSorted()).toEqual(ids.toSorted());
      const page = await inspection.page?.(table, null, timeout());
      if (page !== undefined) expect(page.keys.map(({ id }) => id).toSorted()).toEqual(ids.toSorted());
      const found = await inspection.rows(table, keys, timeout());
      expect(found.map(({ id }) => id).toSorted()).toEqual(ids.toSorted());
    }
    expect(await inspection.rows(acme, [["acme", "3"]], timeout())).toEqual([]);
  });

  if (isStream)
    test("what tells readers that rows are gone has the added columns", async (context) => {
      await using stage = await shared(harness, context);
      await stage.write(
        acme,
        10n,
        rows("acme", "a").map((row) => put(row)),
      );
      await stage.apply({ kind: "truncate", table: acme, version: rowVersion(1, 20n), checkpoint: checkpointAt(21n) });
      const sweeps = [{ table: other, below: rowVersion(1, 30n) }];
      await stage.apply({ kind: "sweep", sweeps, checkpoint: checkpointAt(31n) });
      const marks = (await stage.target.readStream!([acme, other])).filter(({ kind }) =>
        /^(truncate|sweep)$/.test(kind),
      );
      expect(marks).toMatchObject([
        { kind: "truncate", table: acme.id, scope: { tenant: "acme" } },
        { kind: "sweep", table: other.id, scope: { tenant: "it's" } },
      ]);
    });
}
