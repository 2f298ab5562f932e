/** What a comparison reads of a file or lake, and how it ends while DuckDB still reads for it. */
import { expect, test } from "vitest";
import type { SinkTarget } from "../conformance/sink.ts";
import { put, Stage, timeout } from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { landed } from "../support/warehouses/duckdb-landing.ts";
import { duckdbTarget, type RunSql } from "../support/warehouses/duckdb-target.ts";
import { lakeTarget } from "../support/warehouses/ducklake-target.ts";
import { eventually } from "../support/run/waiting.ts";

const ROWS = 20_000;
const items = tableVersion({ table: "items", columns: { id: "int8", name: "text" } });

const KINDS = ["duckdb", "ducklake"] as const;

async function stageOf(kind: (typeof KINDS)[number], table: typeof items) {
  const target: SinkTarget & { readonly query: RunSql } =
    kind === "duckdb" ? duckdbTarget() : await lakeTarget("sqlite");
  const stage = await Stage.of({ name: kind, target: async () => target, landed, transactional: true }, table);
  return {
    stage,
    query: target.query,
    name: kind === "duckdb" ? `public.${table.table}` : `lake.public.${table.table}`,
  };
}

test.each(KINDS)("a float of zero beside a negative one has no sign, in lists and keys too: %s", async (kind) => {
  const zeros = tableVersion({
    table: "zeros",
    columns: { id: "int8", k: "float8", d: "float8", r: "float4", l: "float8[]" },
    key: ["id", "k"],
  });
  const { stage, query, name } = await stageOf(kind, zeros);
  await using _ = stage;
  const row = (id: number, zero: string): string[] => [`${id}`, zero, zero, zero, `{${zero},${zero}}`];
  const rows = Array.from({ length: 3_000 }, (_, id) => row(id, id % 300 === 0 ? "-0" : "0"));
  // The first ones come alone, by their values.
  await stage.write(zeros, 10n, [put(rows[0]!)]);
  await stage.write(
    zeros,
    20n,
    rows.slice(1).map((cells) => put(cells, { fresh: true })),
  );
  await stage.write(zeros, 30n, [put(rows[600]!), put(rows[601]!)]);
  await stage.restart(zeros);
  const signed = ["k", "d", "r", "l[1]", "l[2]"].map((value) => `count(*) filter (signbit(${value}))::integer`);
  expect(await query(`select ${signed.join(", ")} from ${name}`)).toEqual([[0, 0, 0, 0, 0]]);
  const exact = `select id::integer, _millrace_exact->>'d', _millrace_exact->>'r' from ${name}`;
  const held = Array.from({ length: 10 }, (_, i) => [i * 300, "-0", "-0"]);
  expect(await query(`${exact} where _millrace_exact is not null order by id`)).toEqual(held);
  await expectEqual(stage, zeros, rows);
});

test.each(KINDS)("a list with an element that does not fit is as its row has it: %s", async (kind) => {
  const lists = tableVersion({
    table: "lists",
    columns: {
      id: "int8",
      amounts: "numeric(12,2)[]",
      free: "numeric[]",
      times: "timestamptz[]",
      docs: "json[]",
      floats: "float8[]",
      bytes: "bytea[]",
      boxes: "box[]",
    },
  });
  const plain = [
    "{1.50,NULL}",
    "{1.5}",
    '{"2026-11-20 06:43:15+00"}',
    '{"{\\"a\\": 1}"}',
    "{0,1e+300}",
    '{"\\\\x00ff"}',
    null,
  ];
  const odd: readonly (readonly [column: number, text: string])[] = [
    ...["NaN", "Infinity", "-Infinity"].flatMap((text) => [
      [1, `{1.50,${text},NULL}`] as const,
      [2, `{${text}}`] as const,
    ]),
    [3, '{"294276-12-31 23:59:59.999999+00","2026-11-20 06:43:15+00"}'],
    [3, '{"290000-12-31 23:59:59.999999+00"}'],
    [3, '{"287396-10-12 08:59:00.991999+00",infinity,"0044-03-15 12:00:00+00 BC"}'],
    [4, '{"\\"\\\\ud800\\"",NULL}'],
    [5, "{-0,NaN,-Infinity}"],
    [5, "[0:1]={1,2}"],
    [1, "{{1.50},{NaN}}"],
    [7, "{(1,2),(0,0);(3,4),(1,1)}"],
  ];
  const rows = [plain, ...odd.map(([column, text]) => plain.with(column - 1, text))].map((cells, id) => [
    `${id}`,
    ...cells,
  ]);
  const { stage, query, name } = await stageOf(kind, lists);
  await using _ = stage;
  await stage.write(
    lists,
    10n,
    rows.map((cells) => put(cells)),
  );
  await expectEqual(stage, lists, rows);

  // What stands beside an exact text is compared too.
  await query(`update ${name} set amounts = [], free = [], times = NULL, docs = [NULL], floats = [0]`);
  await using inspection = await stage.sink.comparison!.inspect(timeout());
  const found = await inspection.rows(
    lists,
    rows.map(([id]) => [id!]),
    timeout(),
  );
  const wanted = new Map(rows.map((cells) => [inspection.id(lists, [cells[0]!]), cells]));
  for (const { id, cells } of found) {
    const other = cells
      .slice(1, 6)
      .map((cell, i) => cell !== inspection.expected(lists, i + 1, wanted.get(id)![i + 1]!));
    expect(other).toEqual([true, true, true, true, true]);
  }
  expect(found).toHaveLength(rows.length);
});

/** A comparison finds these rows, as it expects them. */
async function expectEqual(stage: Stage, table: typeof items, rows: readonly (readonly (string | null)[])[]) {
  await using inspection = await stage.sink.comparison!.inspect(timeout());
  const keys = rows.map((cells) => table.key.map((ordinal) => cells[ordinal]!));
  const found = new Map((await inspection.rows(table, keys, timeout())).map(({ id, cells }) => [id, cells]));
  const wanted = rows.map((cells) =>
    cells.map((text, i) => (text === null ? null : inspection.expected(table, i, text))),
  );
  expect(keys.map((key) => found.get(inspection.id(table, key)))).toEqual(wanted);
}

test.each([0, 5, 20, 60])("its reads end, begun %d ms before", async (ms) => {
  const harness = { name: "duckdb", target: async () => duckdbTarget(), landed, transactional: true };
  await using stage = await Stage.of(harness, items);
  const ids = Array.from({ length: ROWS }, (_, id) => String(id));
  await stage.write(
    items,
    10n,
    ids.map((id) => put([id, `n${id}`], { fresh: true })),
  );
  const { signal } = new AbortController();
  const inspection = await stage.sink.comparison!.inspect(signal);
  const begunMs = performance.now();
  let hasEnded = false;
  const reading = inspection
    .rows(
      items,
      ids.map((id) => [id]),
      signal,
    )
    .then(
      ({ length }) => length === ROWS,
      () => true,
    )
    .finally(() => (hasEnded = true));
  await eventually(() => performance.now() - begunMs >= ms, { everyMs: 1 });
  await inspection[Symbol.asyncDispose]();
  expect(hasEnded).toBe(true);
  expect(await reading).toBe(true);
});
