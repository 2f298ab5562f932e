import { readdirSync, readFileSync, statSync } from "node:fs";
import { DuckDBInstance } from "@duckdb/node-api";
import * as fc from "fast-check";
import { expect, test, vi } from "vitest";
import { EngineProcess } from "../../connectors/kit/duckdb-engine/engine-process.ts";
import { Database } from "../../connectors/duckdb/file/database.ts";
import { Folding } from "../../connectors/duckdb/file/folding.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type { Sink } from "../../src/core/contracts/sink.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import type { SinkHarness } from "../conformance/sink.ts";
import { failure, patch, put, remove, Reports, rowsBatch, Stage, timeout, type Write } from "../conformance/stage.ts";
import { tableVersion, UNCHANGED } from "../support/model/blocks.ts";
import { landed } from "../support/warehouses/duckdb-landing.ts";
import { type DuckdbTarget, duckdbTarget, FORMS } from "../support/warehouses/duckdb-target.ts";
import { lakeTarget } from "../support/warehouses/ducklake-target.ts";
import { eventually } from "../support/run/waiting.ts";
import { checkpointOf } from "../support/daemon/complete.ts";
import { DEFAULT_FORM } from "../../connectors/warehouse/own-columns.ts";

const harness: SinkHarness = { name: "duckdb", target: async () => duckdbTarget(), landed, transactional: true };

const inOwnProcess: SinkHarness = {
  name: "duckdb in a process of its own",
  target: async () => duckdbTarget(DEFAULT_FORM, { died: true }),
  landed,
  transactional: true,
};

function targetOf({ target }: Stage): DuckdbTarget {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the harness above makes nothing else
  return target as DuckdbTarget;
}

const mixed = tableVersion({
  table: "mixed",
  columns: {
    id: "int8",
    amount: "numeric(12,2)",
    at: "timestamp with time zone",
    grid: "integer[]",
    doc: "json",
    ratio: "double precision",
    note: "text",
  },
});
const plain = ["1.50", "2026-11-20 06:43:15.123456+00", "{1,2}", "{}", "0.5", "n"] as const;
const odd = ["NaN", "294276-12-31 23:59:59.999999+00", "{{1,2},{3,4}}", '["\\ud800"]', "-0", "n"] as const;

test("as long as nobody commits, a heartbeat does not look through all tables, nor does a look for some", async () => {
  await using stage = await Stage.of(harness, mixed);
  const { sink } = stage;
  using read = vi.spyOn(Database.prototype, "tables");
  using found = vi.spyOn(Database.prototype, "find");
  const look = async () => {
    await sink.verify(timeout());
    expect(await sink.presence?.missing([mixed], timeout())).toEqual([]);
    return [read.mock.calls.length, found.mock.calls.length];
  };
  expect(await look()).toEqual([1, 1]);
  expect(await look()).toEqual([1, 1]);
  await stage.write(mixed, 10n, [put(["1", ...plain])]);
  expect(await look()).toEqual([2, 2]);
  await targetOf(stage).query("drop table public.mixed");
  expect(await failure(sink.verify(timeout()))).toMatchObject({ code: "MR3110", kind: "reopen" });
  expect(await sink.presence?.missing([mixed], timeout())).toEqual([mixed]);
});

test("what a column's type can't hold stands beside it as text, and the column shows what it can", async () => {
  await using stage = await Stage.of(harness, mixed);
  await stage.write(mixed, 10n, [put(["1", ...plain])]);
  const before = await targetOf(stage).query(
    "select * from (describe public.mixed) where column_name = '_millrace_exact'",
  );
  expect(before).toEqual([]);
  await stage.write(mixed, 20n, [put(["2", ...odd]), put(["3", ...plain])]);
  const rows = await targetOf(stage).query(
    "select amount, \"at\", grid, doc, ratio = 0, note, _millrace_exact->>'amount', _millrace_exact->>'grid' from public.mixed where id = 2",
  );
  expect(rows).toEqual([[null, null, [1, 2, 3, 4], null, true, "n", "NaN", "{{1,2},{3,4}}"]]);
  const others = await targetOf(stage).query(
    "select count(*)::integer from public.mixed where _millrace_exact is not null",
  );
  expect(others).toEqual([[1]]);
});

test.for([
  ...FORMS.map((form) => ["duckdb", form] as const),
  ["ducklake", DEFAULT_FORM] as const,
  ["ducklake", { deletes: "hard", mode: "history" }] as const,
])("the first such value may come after rows that the step removed and changed: %s %s", async ([kind, form]) => {
  const target = async () => (kind === "duckdb" ? duckdbTarget(form) : await lakeTarget("sqlite", form));
  await using stage = await Stage.of({ name: kind, form, target, landed, transactional: true }, mixed);
  const row = (id: number): string[] => [`${id}`, ...plain];
  await stage.write(
    mixed,
    10n,
    Array.from({ length: 40 }, (_, id) => put(row(id), { fresh: true })),
  );
  const changed = (id: number): Write => patch([`${id}`, "2.00", UNCHANGED, "{7}", UNCHANGED, UNCHANGED, UNCHANGED]);
  const reports = await stage.write(mixed, 20n, [
    ...[0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map((id) => remove(row(id))),
    ...[10, 11, 12, 13, 14, 15, 16, 17].map(changed),
    ...[20, 21, 22, 23, 24].map((id) => put([`${id}`, ...odd])),
    put(["50", ...odd], { fresh: true }),
  ]);
  expect(reports.poisons).toEqual([]);
  // Few rows take another way, and a table has the column from then on.
  await stage.write(mixed, 30n, [remove(row(30)), changed(31), put(["32", ...odd])]);
  await stage.restart(mixed);
  await stage.write(mixed, 40n, [remove(row(33)), put(["34", ...odd])]);
  const { query } = targetOf(stage);
  const catalogue = kind === "duckdb" ? "warehouse" : "lake";
  const held = await query(
    `select distinct id::integer from ${catalogue}.public.mixed where _millrace_exact->>'amount' = 'NaN' order by 1`,
  );
  expect(held.flat()).toEqual([20, 21, 22, 23, 24, 32, 34, 50]);
});

test("a step that fails in the same way twice is no conflict: it names what DuckDB says, and its table alone is at fault", async () => {
  const [held, free] = ["held", "free"].map((table) => tableVersion({ table, columns: { id: "int8", v: "text" } }));
  await using stage = await Stage.of(harness, held!, free!);
  await stage.write(held!, 10n, [put(["1", "a"])]);
  const store = await Database.acquire({ path: targetOf(stage).path, memoryLimit: "256MB", threads: 2 });
  const other = await store.connect();
  await other.run("BEGIN TRANSACTION; ALTER TABLE public.held ADD COLUMN more INTEGER");
  const attempt = () => failure(stage.apply(rowsBatch(20n, [held!, [put(["1", "b"])]])));
  expect(await attempt()).toMatchObject({ code: "MR3220", kind: "retryable" });
  const second = await attempt();
  expect(second).toMatchObject({ code: "MR3234", kind: "fatal" });
  expect(second.message).toMatch(/TransactionContext Error/);
  // The runtime tries the tables of such a batch one by one, and others later.
  await stage.write(free!, 30n, [put(["1", "b"])]);
  expect(await attempt()).toMatchObject({ code: "MR3220", kind: "retryable" });
  await other.run("ROLLBACK");
  other.disconnectSync();
  await store.release();
  await stage.write(held!, 40n, [put(["1", "c"])]);
  await stage.expectRows(held!, [["1", "c"]]);
});

test("an engine in a process of its own that ends fails the calls that wait, and the second time the step", async () => {
  const table = tableVersion({ table: "items", columns: { id: "int8", v: "text" } });
  await using stage = await Stage.of(inOwnProcess, table);
  await stage.write(table, 10n, [put(["1", "a"])]);
  // Read by the engine's next processes alone.
  const beginAgain = async (failpoints: string): Promise<void> => {
    vi.stubEnv("MILLRACE_FAILPOINTS", failpoints);
    await stage.restart(table);
    vi.unstubAllEnvs();
  };
  const attempt = () => failure(stage.apply(rowsBatch(20n, [table, [put(["1", "b"])]])));
  const again = async (failpoints: string): Promise<void> => {
    vi.stubEnv("MILLRACE_FAILPOINTS", failpoints);
    await stage.open(stage.lease);
    await stage.prepare(table);
    vi.unstubAllEnvs();
  };
  await beginAgain("duckdb.engine-committing=abort@3");
  expect(await attempt()).toMatchObject({ code: "MR3235", kind: "retryable" });
  expect(await attempt()).toMatchObject({ code: "MR3216", kind: "retryable" });
  await again("duckdb.engine-committing=abort@3");
  expect(await attempt()).toMatchObject({ code: "MR3235", kind: "fatal" });
  await again("duckdb.engine-committing=kill@3");
  expect(await attempt()).toMatchObject({ code: "MR3216", kind: "retryable" });
  await again("");
  await stage.write(table, 20n, [put(["1", "b"])]);
  await stage.expectRows(table, [["1", "b"]]);
});

test.runIf(process.platform === "linux")(
  "what is asked of an engine whose process is gone, before that is known, fails alone",
  async () => {
    const before = new Set(children());
    const engine = await EngineProcess.open(":memory:", {});
    const pid = children().find((one) => !before.has(one))!;
    process.kill(pid, "SIGSTOP");
    const waiting = failure(engine.ask({ kind: "connect", connection: 1 }));
    process.kill(pid, "SIGKILL");
    // Nothing of this process happens meanwhile.
    while (!/\) Z /.test(readFileSync(`/proc/${pid}/stat`, "latin1")));
    const unsent = [2, 3].map((connection) => failure(engine.ask({ kind: "connect", connection })));
    engine.tell({ kind: "interrupt", connection: 1 });
    expect(await waiting).toMatchObject({ code: "MR3216", message: expect.stringContaining("SIGKILL from outside") });
    for (const one of await Promise.all(unsent))
      expect(one).toMatchObject({ code: "MR3216", message: expect.stringMatching(/has ended|SIGKILL from outside/) });
    await engine.close();
  },
);

test("a process for an engine that does not begin is no fault of DuckDB's", async () => {
  // Of a package that was replaced under the daemon, say.
  vi.stubEnv("NODE_OPTIONS", "--import=file:///millrace-has-no-such-file.mjs");
  const unable = await failure(EngineProcess.open(":memory:", {}));
  vi.unstubAllEnvs();
  expect(unable).toMatchObject({ code: "MR2027", kind: "blocked", message: expect.stringContaining("exit code 1") });

  const { execPath } = process;
  process.execPath = "/millrace-has-no-such-file";
  const unbegun = await failure(EngineProcess.open(":memory:", {})).finally(() => (process.execPath = execPath));
  expect(unbegun).toMatchObject({ code: "MR2027", kind: "blocked", message: expect.stringContaining("ENOENT") });
  expect(unbegun.cause).toMatchObject({ code: "ENOENT" });
});

/** The processes that this one began. */
function children(): number[] {
  return readdirSync("/proc/self/task").flatMap((thread) =>
    readFileSync(`/proc/self/task/${thread}/children`, "latin1").trim().split(" ").filter(Boolean).map(Number),
  );
}

test("the text beside a column goes when the column fits again, in later steps and in other processes", async () => {
  await using stage = await Stage.of(harness, mixed);
  await stage.write(mixed, 10n, [put(["1", ...odd]), put(["2", ...odd]), put(["3", ...odd])]);
  await stage.write(mixed, 20n, [put(["1", ...plain])]);
  await stage.restart(mixed);
  await stage.write(mixed, 30n, [put(["2", ...plain])]);
  const left = await targetOf(stage).query("select id::integer from public.mixed where _millrace_exact is not null");
  expect(left).toEqual([[3]]);
  await stage.expectRows(mixed, [
    ["1", ...plain],
    ["2", ...plain],
    ["3", ...odd],
  ]);
});

test("unchanged cells keep their text, changed ones lose or replace it, also under another key", async () => {
  await using stage = await Stage.of(harness, mixed);
  await stage.write(
    mixed,
    10n,
    ["1", "2", "3", "4"].map((id) => put([id, ...odd])),
  );
  await stage.write(mixed, 20n, [
    patch(["1", UNCHANGED, UNCHANGED, UNCHANGED, UNCHANGED, UNCHANGED, "changed"]),
    patch(["2", "2.00", UNCHANGED, "{7}", UNCHANGED, UNCHANGED, "changed"]),
    patch(["3", "2.00", null, "{7}", null, "1", UNCHANGED]),
    patch(["9", UNCHANGED, UNCHANGED, "[3:4]={1,2}", UNCHANGED, UNCHANGED, "moved"], { from: ["4", ...odd] }),
    remove(["4", ...odd]),
  ]);
  const [amount, at, grid, doc, ratio, note] = odd;
  await stage.expectRows(mixed, [
    ["1", amount, at, grid, doc, ratio, "changed"],
    ["2", "2.00", at, "{7}", doc, ratio, "changed"],
    ["3", "2.00", null, "{7}", null, "1", note],
    ["9", amount, at, "[3:4]={1,2}", doc, ratio, "moved"],
  ]);
  const third = await targetOf(stage).query("select _millrace_exact from public.mixed where id = 3");
  expect(third).toEqual([[null]]);
});

test("a key value that the type can't hold is poison, and its delete has nothing to do", async () => {
  const table = tableVersion({ table: "amounts", columns: { amount: "numeric(12,2)", note: "text" } });
  await using stage = await Stage.of(harness, table);
  const reports = await stage.write(table, 10n, [put(["NaN", "x"]), put(["1.00", "y"])]);
  expect(reports.poisons.map(({ entry, error }) => [entry, error.code, error.kind])).toEqual([[0, "MR3111", "poison"]]);
  const after = await stage.write(table, 20n, [remove(["NaN", null])]);
  expect(after.poisons).toEqual([]);
  await stage.expectRows(table, [["1.00", "y"]]);
});

test("a large row that is poison leaves the rows before and behind it whole", async () => {
  const table = tableVersion({
    table: "large",
    columns: { doc: "text", raw: "bytea", amount: "numeric(12,2)" },
    key: ["amount"],
  });
  await using stage = await Stage.of(harness, table);
  const large = ['x"y\n'.repeat(700_000), `\\x${"0aff".repeat(700_000)}`];
  const rows = [
    ["a", "\\x", "1.00"],
    [...large, "2.00"],
    ["b", "\\x00", "3.00"],
  ];
  const reports = await stage.write(table, 10n, [put(rows[0]!), put([...large, "NaN"]), put(rows[1]!), put(rows[2]!)]);
  expect(reports.poisons.map(({ entry }) => entry)).toEqual([1]);
  await stage.expectRows(table, rows);
});

test("a row under another key takes nothing from a newer row that has the old key by now", async () => {
  const table = tableVersion({ table: "moves", columns: { id: "int8", body: "text", note: "text" } });
  await using stage = await Stage.of(harness, table);
  await stage.write(table, 10n, [put(["1", "first", "a"])]);
  const move: Write[] = [
    patch(["2", UNCHANGED, "b"], { from: ["1", null, null], at: 20n }),
    remove(["1", null, null], { at: 20n }),
  ];
  await stage.write(table, 20n, move);
  await stage.write(table, 30n, [put(["1", "second", "c"])]);
  // The log is read again.
  const reports = await stage.write(table, 40n, move);
  expect(reports.incompleteEntries).toEqual([0]);
  await stage.expectRows(table, [
    ["1", "second", "c"],
    ["2", "first", "b"],
  ]);
});

test("columns whose names differ in case only each have their place", async () => {
  const table = tableVersion({
    table: "cases",
    columns: { id: "int8", name: "text", Name: "text", NAME: "text", ÉTÉ: "text", été: "text" },
  });
  await using stage = await Stage.of(harness, table);
  await stage.write(table, 10n, [put(["1", "a", "b", "c", "d", "e"])]);
  await stage.restart(table);
  await stage.write(table, 20n, [patch(["1", UNCHANGED, "B", UNCHANGED, "D", UNCHANGED])]);
  await stage.expectRows(table, [["1", "a", "B", "c", "D", "e"]]);
  const names = await targetOf(stage).query("select column_name from (describe public.cases) limit 6");
  const suffixed = expect.stringMatching(/^name_[0-9a-f]{8}$/i);
  expect(names.map(([name]) => name)).toEqual(["id", "name", suffixed, suffixed, "ÉTÉ", "été"]);
});

test.each(["duckdb", "ducklake"])(
  "a column with a capital letter that somebody dropped is missed, whether or not columns have identities: %s",
  async (kind) => {
    const isFile = kind === "duckdb";
    await using target = isFile ? duckdbTarget() : await lakeTarget("sqlite");
    const tables = ["known", "unknown"].map((name) =>
      tableVersion({
        table: name,
        columns: { id: "int8", createdAt: "text", CREATEDAT: "text" },
        key: ["id"],
        ...(name === "known" ? {} : { identities: { id: 0, createdAt: 0, CREATEDAT: 0 } }),
      }),
    );
    const found: (readonly TableVersion[] | undefined)[] = [];
    for (const lease of [1, 2, 3]) {
      const sink = target.makeSink();
      await sink.open(lease, timeout());
      found.push(await sink.presence?.missing(tables, timeout()));
      if (lease === 1) await sink.prepare(tables, timeout());
      await sink.close();
      if (lease !== 2) continue;
      for (const { table } of tables) {
        await target.query(`alter table ${isFile ? "warehouse" : "lake"}.public.${table} drop column "createdAt"`);
      }
    }
    expect(found).toEqual([tables, [], tables]);
  },
);

test("a hint that rows are new, wrong in the middle of many, costs nothing but time", async () => {
  const table = tableVersion({ table: "hints", columns: { id: "int8", v: "text" } });
  await using stage = await Stage.of(harness, table);
  await stage.write(table, 10n, [put(["500", "old"])]);
  const reports = await stage.write(
    table,
    20n,
    Array.from({ length: 1000 }, (_, i) => put([`${i}`, "new"], { fresh: true })),
  );
  expect(reports.poisons).toEqual([]);
  const [count] = await targetOf(stage).query("select count(*)::integer, count(distinct v)::integer from public.hints");
  expect(count).toEqual([1000, 1]);
});

test(
  "a step of several megabytes over rows that are there sets none back and keeps what does not fit",
  { tags: "heavy" },
  async () => {
    await using stage = await Stage.of(harness, mixed);
    const idCount = 5_000;
    const [newer, poison, last] = [7, 3_000, idCount - 1];
    const row = (id: number, note: string, like: readonly string[] = plain): string[] => [
      `${id}`,
      ...like.slice(0, -1),
      `${note} ${"x".repeat(1_000)}`,
    ];
    const ids = Array.from({ length: idCount }, (_, id) => id);
    // The odd ids are new.
    await stage.write(
      mixed,
      10n,
      ids.filter((id) => id % 2 === 0).map((id) => put(row(id, "old"))),
    );
    await stage.write(mixed, 30n, [put(row(newer, "newer"))]);
    const changed = ids.map((id) => row(id, "changed", id === last ? odd : plain));
    const refused = row(poison, "refused").with(1, "12345678901.00");
    const reports = await stage.write(
      mixed,
      20n,
      ids.map((id) => put(id === poison ? refused : changed[id]!)),
    );
    expect(reports.poisons.map(({ entry }) => entry)).toEqual([poison]);
    changed[newer] = row(newer, "newer");
    changed[poison] = row(poison, "old");
    await stage.expectRows(mixed, changed);
  },
);

test(
  "a table that refuses every row stops the sink instead of filling the dead letters",
  { tags: "long" },
  async () => {
    const table = tableVersion({ table: "wrong", columns: { id: "int8", doc: "json" } });
    await using stage = await Stage.of(harness, table);
    const all = Array.from({ length: 1100 }, (_, i) => put([`${i}`, "no json"]));
    const error = await failure(stage.write(table, 10n, all));
    expect([error.code, error.kind]).toEqual(["MR3111", "fatal"]);
    expect(error.message).not.toContain("no json");
    expect(await stage.checkpointNow()).toBeNull();
  },
);

test("updates of every kind of column hold under many steps while a reader keeps an old snapshot", async () => {
  const table = tableVersion({
    table: "busy",
    columns: { id: "int8", tags: "text[]", doc: "jsonb", raw: "bytea", n: "numeric(10,3)", big: "numeric" },
  });
  await using stage = await Stage.of(harness, table);
  const row = (id: number, n: number): string[] => [
    `${id}`,
    `{t${n}}`,
    `{"n": ${n}}`,
    `\\x${"0a".repeat(n % 9)}`,
    `${n}.125`,
    `${n}`,
  ];
  const model = new Map<number, string[]>();
  let reading: Promise<unknown> = Promise.resolve();
  for (let n = 1; n <= 60; n++) {
    const entries: Write[] = [];
    for (let id = 0; id < 30; id++) {
      const turn = (id * 7 + n * 13) % 5;
      if (turn === 0 && model.delete(id)) entries.push(remove([`${id}`, null, null, null, null, null]));
      if (turn > 2) {
        model.set(id, row(id, n));
        entries.push(put(row(id, n), { fresh: n % 2 === 0 }));
      }
    }
    await stage.write(table, BigInt(n * 10), entries);
    if (n === 20)
      reading = stage.sink
        .verify(timeout())
        .then(() => targetOf(stage).query("select count(*) from public.busy, range(200000)"));
  }
  await reading;
  await stage.expectRows(table, [...model.values()]);
});

test("any text and any number arrives as it was sent", async () => {
  const table = tableVersion({
    table: "anything",
    columns: {
      id: "int8",
      t: "text",
      f: "double precision",
      r: "real",
      i: "bigint",
      b: "bytea",
      a: "text[]",
      n: "numeric",
    },
  });
  const text = fc.string({ unit: "binary", maxLength: 200 }).filter((value) => !value.includes("\0"));
  const float = fc.double().map((value) => (Object.is(value, -0) ? "0" : String(value)));
  const cells = fc.tuple(
    text,
    float,
    fc.float().map((value) => (Object.is(value, -0) ? "0" : String(value))),
    fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }).map(String),
    fc.uint8Array({ maxLength: 60 }).map((bytes) => `\\x${Buffer.from(bytes).toString("hex")}`),
    fc.array(fc.option(text), { maxLength: 5 }).map(arrayText),
    fc.bigInt({ min: -(10n ** 60n), max: 10n ** 60n }).map((value) => `${value}.0010`),
  );
  await using stage = await Stage.of(harness, table);
  let at = 0n;
  await fc.assert(
    fc.asyncProperty(fc.array(cells, { minLength: 1, maxLength: 40 }), async (rows) => {
      at += 10n;
      const written = rows.map((values, i) => [`${i}`, ...values]);
      await stage.write(table, at, [...written.map((row) => put(row)), ...gone(written.length)]);
      await stage.expectRows(table, written);
    }),
    { numRuns: 30 },
  );

  /** Rows of the run before. */
  function gone(from: number): Write[] {
    return Array.from({ length: 40 - from }, (_, i) =>
      remove([`${from + i}`, ...Array.from({ length: 7 }, () => null)]),
    );
  }
});

test(
  "one or two rows, written by their values, land as many do: any text, and what no column can hold",
  { tags: "heavy" },
  async () => {
    const table = tableVersion({
      table: "few",
      columns: {
        id: "text",
        t: "text",
        f: "double precision",
        b: "bytea",
        n: "numeric(12,2)",
        at: "timestamp with time zone",
        day: "date",
        doc: "json",
      },
    });
    const text = fc.string({
      unit: fc.constantFrom("a", "'", '"', ",", "\n", "\0", "\\", "é", "\u{1f600}", "$"),
      maxLength: 12,
    });
    const cells = fc.tuple(
      text,
      fc.double().map(String),
      fc.uint8Array({ maxLength: 9 }).map((bytes) => `\\x${Buffer.from(bytes).toString("hex")}`),
      fc.constantFrom("1.50", "-0.01", "NaN", "Infinity"),
      fc.constantFrom(
        "2026-11-20 06:43:15.123456+00",
        "0044-03-15 10:00:00+00 BC",
        "294276-12-31 23:59:59.999999+00",
        "infinity",
      ),
      fc.constantFrom("2026-11-20", "0044-03-15 BC", "-infinity"),
      fc.constantFrom("{}", '["\\ud800"]', ' {"a": 1.10}'),
    );
    const keys = ["a'b", 'c"d,', "\0", "é\n"];
    const change = fc.record({
      key: fc.constantFrom(...keys),
      action: fc.constantFrom("put", "fresh", "patch", "remove"),
      values: cells.map((values) => values.map((value, i) => (i === 0 && value === "" ? null : value))),
    });
    await using stage = await Stage.of(harness, table);
    const model = new Map<string, readonly (string | null)[]>();
    let at = 0n;
    const writeOf = ({
      key,
      action,
      values,
    }: {
      key: string;
      action: string;
      values: readonly (string | null)[];
    }): Write => {
      const old = model.get(key);
      if (action === "remove") {
        model.delete(key);
        return remove([key, ...values.map(() => null)]);
      }
      const isPatch = action === "patch" && old !== undefined;
      const next = [key, ...values];
      if (isPatch) next[1] = old[1]!;
      model.set(key, next);
      if (isPatch) return patch([key, UNCHANGED, ...next.slice(2)]);
      return put(next, { fresh: action === "fresh" && old === undefined });
    };
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(change, { minLength: 1, maxLength: 2, selector: ({ key }) => key }),
        async (changes) => {
          at += 10n;
          await stage.write(table, at, changes.map(writeOf));
          // Older ones change nothing.
          const { key } = changes[0]!;
          const older = ["old", "1", "\\x", "1.00", null, null, null];
          const isThere = model.has(key);
          if (isThere)
            await stage.write(table, at + 1n, [put([key, ...older], { at: at - 5n }), remove(["none", ...older])]);
          if (isThere) await stage.write(table, at + 2n, [remove([key, ...older], { at: at - 5n })]);
          await stage.expectRows(table, [...model.values()]);
        },
      ),
      { numRuns: 150 },
    );
  },
);

test("a truncate or sweep of one table keeps its version rule", async () => {
  const table = tableVersion({ table: "swept", columns: { id: "int8" } });
  await using stage = await Stage.of(harness, table);
  await stage.write(table, 10n, [put(["1"]), put(["2"], { at: 11n }), put(["3"], { at: 12n })]);
  const checkpoint = checkpointOf({ epoch: 1, commit: 20n, index: 0 });
  await stage.apply({ kind: "sweep", sweeps: [{ table, below: rowVersion(1, 11n) }], checkpoint });
  await stage.expectRows(table, [["2"], ["3"]]);
  await stage.apply({ kind: "truncate", table, version: rowVersion(1, 11n), checkpoint });
  await stage.expectRows(table, [["3"]]);
});

function arrayText(elements: readonly (string | null)[]): string {
  const quoted = elements.map((element) =>
    element === null ? "NULL" : `"${element.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`,
  );
  return `{${quoted.join(",")}}`;
}

test("many tables are made ready together, each from where it is, and the one that can't be is named", async () => {
  const narrow = (name: string, version = 1) =>
    tableVersion({
      table: name,
      columns: [["id", "int4"] as const, ...(version === 1 ? [] : [["more", "text"] as const])],
      key: ["id"],
      version,
    });
  const [same, grown, occupied] = [narrow("same"), narrow("grown"), narrow("occupied")];
  await using stage = await Stage.of(harness, same, grown);
  await stage.write(grown, 10n, [put(["1"])]);
  await stage.target.occupy!(occupied);
  const wider = narrow("grown", 2);
  const others = [same, wider, ...Array.from({ length: 120 }, (_, i) => narrow(`t${i}`))];
  const error = await failure(stage.sink.prepare([occupied, ...others], timeout()));
  expect([error.code, error.kind, error.table]).toEqual(["MR3106", "fatal", occupied.id]);
  const row = (table: (typeof others)[number]) => (table === wider ? ["2", "new"] : ["2"]);
  await stage.apply(rowsBatch(20n, ...others.map((table) => [table, [put(row(table))]] as const)));
  for (const table of others.slice(2)) await stage.expectRows(table, [row(table)]);
  await stage.expectRows(same, [["2"]]);
  await stage.expectRows(wider, [["1", null], row(wider)]);
  const renamed = tableVersion({ table: "Same", columns: { id: "int4" } });
  await stage.prepare(renamed, narrow("later"));
  expect(
    await targetOf(stage).query("select table_name from duckdb_tables() where lower(table_name) = 'same'"),
  ).toEqual([["Same"]]);
});

test("what steps of many tables leave in the log is folded in behind them", async () => {
  const some = (from: number, count: number) =>
    Array.from({ length: count }, (_, i) =>
      tableVersion({ table: `t${from + i}`, columns: { id: "int4", name: "text" } }),
    );
  await using stage = await Stage.of(harness);
  const [few, many] = [some(0, 70), some(70, 140)];
  await stage.prepare(...few, ...many);
  const write = async (commit: bigint, tables: readonly TableVersion[]): Promise<void> => {
    await stage.apply(rowsBatch(commit, ...tables.map((table) => [table, [put(["1", "a"])]] as const)));
  };
  const logBytes = (): number => statSync(`${targetOf(stage).path}.wal`, { throwIfNoEntry: false })?.size ?? 0;
  await write(10n, few);
  const ofFew = logBytes();
  expect(ofFew).toBeGreaterThan(0);
  // Nothing else comes.
  await eventually(() => expect(logBytes()).toBe(0));

  // Of 256 MB half may be held so: the next batch waits.
  await write(20n, many);
  await write(30n, few.slice(0, 1));
  expect(logBytes()).toBeGreaterThan(0);
  expect(logBytes()).toBeLessThan(ofFew / 10);
});

test("what can't be folded in behind a step ends nothing: the next step meets the file as it is", async () => {
  await using target = duckdbTarget();
  const instance = await DuckDBInstance.create(target.path);
  const connection = await instance.connect();
  let asked = 0;
  const inTurn = async (): Promise<void> => {
    asked++;
    throw new Error("the database has been invalidated");
  };
  const folding = new Folding({ path: target.path, memoryLimit: "16MB", inTurn });
  const tableIds = Array.from({ length: 16 }, (_, i) => `public.t${i}`);
  await folding.around(connection, tableIds, async () => void (await connection.run("create table t (id integer)")));
  await eventually(() => expect(asked).toBe(1));
  await folding.around(connection, [], async () => void (await connection.run("insert into t values (1)")));
  folding.stop();
  connection.disconnectSync();
  instance.closeSync();
});

test("a file that is there keeps the size of its blocks; a new one has small ones", async () => {
  const table = tableVersion({ table: "t", columns: { id: "int4" } });
  const sizeOfBlocks = async (path: string, sink: Sink): Promise<unknown> => {
    await sink.open(1, timeout());
    await sink.prepare([table], timeout());
    await sink.apply(rowsBatch(10n, [table, [put(["1"])]]), new Reports(), timeout());
    await sink.close();
    const instance = await DuckDBInstance.create(path);
    const connection = await instance.connect();
    const found = await connection.runAndReadAll("select block_size from pragma_database_size()");
    connection.disconnectSync();
    instance.closeSync();
    return found.getRowsJson()[0]![0];
  };
  await using made = duckdbTarget();
  expect(await sizeOfBlocks(made.path, made.makeSink())).toBe("65536");
  await using found = duckdbTarget();
  const instance = await DuckDBInstance.create(found.path);
  instance.closeSync();
  expect(await sizeOfBlocks(found.path, found.makeSink())).toBe("262144");
  expect(await found.query("select id from public.t")).toEqual([[1]]);
});
