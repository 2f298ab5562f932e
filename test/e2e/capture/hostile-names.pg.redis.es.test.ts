/** Names and texts that are somebody else's syntax somewhere: they are data in every sink. */
import { expect, test } from "vitest";
import { tableId } from "../../../src/core/model/schema.ts";
import type { TableName } from "../../support/compare/compare.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import { eventually } from "../../support/run/waiting.ts";

const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;

const NAMES = [
  'double "quotes"',
  "single 'quotes'",
  "dots.in.it",
  " spaces ",
  "x".repeat(63),
  "🚀".repeat(15),
  "__proto__",
  "constructor",
  "toString",
  "'; drop table x; --",
  '"; drop schema public cascade; --',
  "per%cent %41",
  "colon:and::more",
  "back\\slash",
  "_leading",
  "-dash",
  "+plus",
  "..",
  "a/b*c?<d>|,#",
  "new\nline\ttab",
  "select",
  "$1",
  "{braces}",
  "[brackets]",
  "MixedCase",
  "ünïcödé ß",
  "_id",
  "_source",
  "null",
];

/** Hostile in SQL, JSON, scripts, protocols and patterns. */
const TEXTS = [
  "",
  "'; drop table x; --",
  '"}{"index":{}}\n{"a":1}',
  "\\",
  "\\N",
  "\\.",
  '","',
  "$$ $1 ${x} %s %n {{a}}",
  "\r\nDEL x\r\n",
  "*3\r\n$3\r\nSET\r\n",
  "__proto__",
  "NaN",
  "null",
  "\u0001\u001f\u007f\u0085\u2028\ufeff",
  "🚀 \u202e rtl é e\u0301",
  "<script>alert(1)</script>",
  "'||pg_sleep(10)||'",
  "a,b;c\td|e",
];

/** Columns beside those: one that differs from another in case alone. */
const COLUMNS = [...NAMES, "mixedcase", "MIXEDCASE", "_millrac", "id"];

test("hostile names of schemas, tables and columns, and hostile texts", async () => {
  const tables: TableName[] = [];
  await using pipeline = await RunningPipeline.start(async (source) => {
    for (let i = 0; i < NAMES.length; i += isLongForm() ? 1 : 2) {
      // Every name is a schema's or a table's, in the long form both, and a column's.
      const name = NAMES[(i + 1) % NAMES.length]!;
      const schema = NAMES[i]!;
      const columns = [name, ...COLUMNS.filter((column) => column !== name)].map(quoted);
      const into = `${quoted(schema)}.${quoted(name)}`;
      await source.query(
        `create schema ${quoted(schema)}; create table ${into} (${columns.join(" text, ")} text, primary key (${quoted(name)}))`,
      );
      const parameters = columns.map((_, i) => `$${i + 1}`).join(", ");
      for (const [n, text] of TEXTS.entries()) {
        const values = columns.map((_, i) => (i === 0 ? text : TEXTS[(n + i) % TEXTS.length]));
        await source.query(`insert into ${into} (${columns.join(", ")}) values (${parameters})`, values);
      }
      tables.push({ schema, table: name });
    }
  });
  await pipeline.expectEqual(tables);
  for (const { schema, table } of tables) {
    const into = `${quoted(schema)}.${quoted(table)}`;
    await pipeline.source.query(
      `update ${into} set ${quoted(table)} = ${quoted(table)} || '.new' where length(${quoted(table)}) % 3 = 0`,
    );
    await pipeline.source.query(`delete from ${into} where length(${quoted(table)}) % 5 = 1`);
  }
  await pipeline.expectEqual(tables);
  const ids = tables.slice(0, 6).map(({ schema, table }) => tableId(schema, table));
  await pipeline.readAgain(...ids);
  await pipeline.source.query(`truncate ${quoted(NAMES[0]!)}.${quoted(NAMES[1]!)}`);
  await pipeline.expectEqual(tables);
  const { sinks } = await pipeline.installation.status();
  expect(sinks.filter(({ deadLetters }) => deadLetters > 0)).toEqual([]);
});

test(
  "of two tables that would meet in one target the second is refused by number in that sink alone, also in one that comes later",
  { tags: "heavy" },
  async () => {
    await using pipeline = await RunningPipeline.start(
      "create table twin (id int primary key, body text); insert into twin values (1, 'first')",
      { kinds: ["postgres", "duckdb", "elasticsearch"] },
    );
    const { installation, sinks, source } = pipeline;
    await pipeline.settled();
    const suspended = async (): Promise<string[]> =>
      (await installation.status()).tables.suspended.map(({ table, sink, error }) => `${sink} ${table} ${error.code}`);
    const differences = async (...tables: string[]) => await sinks.differences(source.url, installation.folder, tables);
    const both = ["duckdb public.Twin MR1305", "elasticsearch public.Twin MR1305"];
    await pipeline.run(
      `create table "Twin" (id int primary key, body text); insert into "Twin" values (1, 'second'), (2, 'second')`,
    );
    await eventually(async () => expect((await suspended()).toSorted()).toEqual(both));
    await pipeline.run(
      `insert into twin values (2, 'first'); update "Twin" set body = 'more'; delete from "Twin" where id = 2`,
    );
    await eventually(async () => expect(await differences("twin")).toEqual([]));
    await eventually(async () => {
      const { rows } = await sinks.target!.query('select id, body from "Twin"');
      expect(rows).toEqual([{ id: 1, body: "more" }]);
    });
    const waited = await installation.ask<{ missing: readonly string[] }>("POST", "/api/v1/wait", { timeoutMs: 3_000 });
    expect(waited?.missing.join()).toContain("MR1305");
    const asked = await installation.command("snapshot", "start", "--tables", "public.Twin", "--sink", "duckdb");
    expect(asked).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("MR1305") });
    // An operator's wish that was stored while nothing ran does not make them one.
    await pipeline.daemon.stop();
    await installation.command("snapshot", "start", "--tables", "public.Twin");
    await pipeline.start();
    await pipeline.run(`insert into twin values (3, 'first'); insert into "Twin" values (4, 'second')`);
    await eventually(async () => expect((await suspended()).toSorted()).toEqual(both));
    await eventually(async () => expect(await differences("twin")).toEqual([]));
    await pipeline.run("drop table twin");
    await eventually(async () => expect(await suspended()).toEqual([]), { withinMs: 60_000 });
    await eventually(async () => expect(await differences("Twin")).toEqual([]));
  },
);

test("a sink that comes when two tables that meet there are known takes the first", { tags: "heavy" }, async () => {
  await using pipeline = await RunningPipeline.start(
    `create table twin (id int primary key, body text); insert into twin values (1, 'first'), (2, 'first');
     create table "Twin" (id int primary key, body text); insert into "Twin" values (1, 'second'), (3, 'second')`,
    {
      kinds: ["elasticsearch"],
      configure: (config) => ({ ...config, sinks: { files: { kind: "files", path: "./changes" } } }),
    },
  );
  const { installation, sinks, source } = pipeline;
  await pipeline.daemon.stop();
  installation.configure({
    name: source.name,
    source: { kind: "postgres", url: source.url, heartbeat: "500ms" },
    sinks: { files: { kind: "files", path: "./changes" }, ...sinks.config },
  });
  await pipeline.start();
  await eventually(async () => {
    const { tables } = await installation.status();
    expect(tables.suspended).toMatchObject([
      { sink: "elasticsearch", table: "public.twin", error: { code: "MR1305" } },
    ]);
  });
  await pipeline.run(`insert into twin values (4, 'first'); update "Twin" set body = 'more'`);
  await eventually(async () => expect(await sinks.differences(source.url, installation.folder, ["Twin"])).toEqual([]));
});
