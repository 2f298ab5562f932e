/**
 * Databases in other encodings than UTF8: what has no form in UTF-8 concerns its own table alone.
 * @module-tag heavy
 */
import { describe, expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import { freshDatabase, postgres } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

/** Bytes that the encoding takes and UTF-8 lacks, and texts that both have: of several lengths, where it has them. */
const ENCODINGS = [
  { encoding: "SQL_ASCII", bytes: "e9", good: "größe €" },
  { encoding: "WIN1252", bytes: "81", good: "größe €" },
  { encoding: "EUC_JP", bytes: "a9a1", good: "größe 日本 ｶﾅ" },
  { encoding: "EUC_KR", bytes: "c9a1", good: "한국어" },
  { encoding: "EUC_CN", bytes: "aaa1", good: "中文" },
  { encoding: "EUC_TW", bytes: "8ea7fefe", good: "中文 乂" },
  { encoding: "EUC_JIS_2004", bytes: "8fa2a1", good: "日本 か゚" },
  { encoding: "KOI8R", bytes: null, good: "слово" },
];
/** The others show what only they have: in every run. */
const IN_SHORT = new Set(["SQL_ASCII", "EUC_JP"]);

describe.each(ENCODINGS)("$encoding", ({ encoding, bytes, good }) => {
  test("rows without a form in UTF-8, in the log and at reads", async ({ skip }) => {
    skip(!IN_SHORT.has(encoding) && !isLongForm(), "it is part of the long form");
    const bad = bytes === null ? "'bad'" : `convert_from('\\x${bytes}'::bytea, '${encoding}')`;
    const source = await freshDatabase(postgres(), encoding);
    const named =
      bytes !== null
        ? `do $$ begin execute format('create table named (id int primary key, %I int)', 'n' || ${bad});
             execute format('create type %I as enum (''a''); create table typed (id int primary key, t %1$I)', 't' || ${bad});
             execute format('create table %I (id int primary key)', 'x' || ${bad});
             execute format('create type state as enum (''a'', %L)', 'l' || ${bad}); end $$;
             create table labelled (id int primary key, "${good}" state); insert into labelled values (1, 'a')`
        : "";
    const prepare = `
      create table good (id int primary key, v text);
      create table "${good}" (id int primary key, "${good}" text);
      create table later (id int primary key, v text, f float8 default 0.1);
      create table before (id int primary key, v text);
      insert into good values (1, '${good}'); insert into later values (1, 'a');
      insert into before values (1, 'a'), (2, ${bad}), (3, 'c'); ${named}`;
    await using pipeline = await RunningPipeline.start(prepare, { kinds: ["postgres"], source });
    const { installation, sinks } = pipeline;
    const arrives = async (id: number): Promise<void> => {
      await pipeline.run(`insert into good values (${id}, '${good}'); insert into "${good}" values (${id}, '${good}')`);
      await eventually(async () => {
        for (const table of ["good", good]) {
          const { rows } = await sinks.target!.query(`select * from public."${table}" where id = ${id}`);
          expect(Object.values(rows[0] ?? {})).toEqual(expect.arrayContaining([id, good]));
        }
      });
    };
    await arrives(2);
    if (bytes !== null) {
      // What can't be read is tried again, and nothing else waits.
      await eventually(async () => {
        const { tables } = await installation.status();
        expect(tables.unreadable).toMatchObject([{ table: "public.before", error: { code: "MR2037" } }]);
        const told = { reason: expect.stringContaining("no UTF-8") };
        if (named !== "")
          expect(tables.refused).toMatchObject([
            ...(encoding === "SQL_ASCII" ? [] : [{ table: "public.labelled", ...told }]),
            { table: "public.named", ...told },
            { table: "public.typed", ...told },
            { table: expect.stringMatching(/^public\.x./), ...told },
          ]);
      });
      await pipeline.run("update before set v = 'b' where id = 2");
      await pipeline.run(`insert into later values (2, ${bad}), (3, 'c'); insert into good values (10, 'with it')`);
    }
    await arrives(3);
    if (bytes !== null) {
      await eventually(async () =>
        expect((await installation.status()).tables.suspended).toMatchObject([
          { table: "public.later", error: { code: "MR2037" } },
        ]),
      );
      await pipeline.run("update later set v = 'b' where id = 2");
    }
    await pipeline.daemon.stop();
    await pipeline.start();
    await arrives(4);
    if (bytes !== null) await pipeline.readAgain("public.later");
    await pipeline.run("update later set v = 'd' where id = 1");
    await pipeline.settled();
    if (encoding === "SQL_ASCII")
      expect((await sinks.target!.query("select * from public.labelled")).rows).toMatchObject([{ id: 1, [good]: "a" }]);
    for (const table of ["good", "later", "before"]) {
      const sql = `select id, v from public.${table} order by id`;
      expect((await sinks.target!.query(sql)).rows, table).toEqual((await source.query(sql)).rows);
    }
    const warned = expect((await installation.command("check")).stdout);
    if (bytes === null) warned.not.toMatch(/encoding/);
    else warned.toMatch(`encoding ${encoding}`);
  });
});

describe("names without a form in UTF-8", () => {
  /** In each statement, `#` becomes a byte that WIN1252 takes and UTF-8 lacks. */
  const named = (...statements: readonly string[]): string => {
    const run = (sql: string): string => `execute replace($s$${sql}$s$, '#', convert_from('\\x81', 'WIN1252'))`;
    return `do $$ begin ${statements.map((sql) => `${run(sql)};`).join(" ")} end $$`;
  };
  const refusedIn = async ({ installation }: RunningPipeline): Promise<readonly string[]> =>
    (await installation.status()).tables.refused.map(({ table }) => table).toSorted();
  const expectRows = async (pipeline: RunningPipeline, tables: readonly string[]): Promise<void> => {
    await pipeline.settled();
    for (const table of tables) {
      const read = `select id, v from only "${table}" order by id`;
      expect((await pipeline.sinks.target!.query(read)).rows, table).toEqual((await pipeline.source.query(read)).rows);
    }
  };

  test("that come while the daemon runs concern their own table alone", async () => {
    const source = await freshDatabase(postgres(), "WIN1252");
    await using pipeline = await RunningPipeline.start(
      `create table good (id int primary key, v text); create table "größe" (id int primary key, v text);
       create table renamed (id int primary key, v text); create table changed (id int primary key, v text);
       ${named(`create type "e#" as enum ('a')`)}`,
      { kinds: ["postgres"], source },
    );
    // The log names the type, and the catalogue has the column no more.
    await pipeline.run(
      named(
        `alter table changed add c "e#"`,
        "insert into changed values (1, 'a', 'a')",
        "alter table changed drop c",
        "insert into changed values (2, 'b')",
      ),
    );
    const [made] = (await source.query("select pubname from pg_publication")).rows;
    await pipeline.run(
      named(
        `alter table renamed rename to "renamed#"`,
        `insert into "renamed#" values (1, 'a')`,
        `create table "heir#" () inherits (good)`,
        `create table "between#" () inherits ("größe")`,
        `create table child (primary key (id)) inherits ("between#")`,
        `create table owner (id int primary key, r "heir#")`,
        `create table listed (id int primary key, "n#" int)`,
        `alter publication "${String(made?.["pubname"])}" add table listed (id, "n#")`,
      ),
    );
    await eventually(async () =>
      expect(await refusedIn(pipeline)).toEqual([
        expect.stringMatching(/^public\.between./),
        expect.stringMatching(/^public\.heir./),
        "public.listed",
        "public.owner",
        expect.stringMatching(/^public\.renamed./),
      ]),
    );
    // What is refused leaves the publication, at the next look: after a slow one the daemon rests longer.
    await eventually(
      async () => {
        const { rows } = await source.query("select prrelid::regclass::text as name from pg_publication_rel");
        expect(rows.map(({ name }) => String(name)).toSorted()).toEqual(['"größe"', "changed", "child", "good"]);
      },
      { withinMs: 120_000 },
    );
    await pipeline.run(
      `insert into good values (1, 'a'); insert into "größe" values (1, 'a'); insert into child values (1, 'a')`,
    );
    await pipeline.daemon.stop();
    await pipeline.start();
    await pipeline.run(named(`alter table "renamed#" rename to renamed`));
    await eventually(async () =>
      expect(await refusedIn(pipeline)).not.toContainEqual(expect.stringMatching("renamed")),
    );
    await pipeline.run("insert into renamed values (2, 'b'); insert into good values (2, 'b')");
    await expectRows(pipeline, ["good", "größe", "child", "changed", "renamed"]);
    expect((await pipeline.installation.status()).tables.suspended).toEqual([]);
  });

  test("bring no rows from another role's publication", async () => {
    const source = await freshDatabase(postgres(), "WIN1252");
    await using pipeline = await RunningPipeline.start(
      `create table good (id int primary key, v text); create publication everything for all tables;
       ${named(`create table "x#" (id int primary key)`)}`,
      {
        kinds: ["postgres"],
        source,
        configure: (config) => ({ ...config, source: { ...config.source, publication: "everything" } }),
      },
    );
    await pipeline.run(named(`insert into "x#" values (1)`));
    await pipeline.run("insert into good values (1, 'a')");
    await expectRows(pipeline, ["good"]);
    const { rows } = await pipeline.sinks.target!.query("select relname from pg_class where relname like 'x%'");
    expect(rows).toEqual([]);
    expect((await pipeline.installation.status()).tables.suspended).toEqual([]);
  });
});

test("a key that is no UTF-8 and goes, or becomes another one, suspends nothing", async () => {
  const source = await freshDatabase(postgres(), "SQL_ASCII");
  const bad = (byte: string): string => `convert_from('\\x61${byte}'::bytea, 'SQL_ASCII')`;
  const long = "(select string_agg(md5(g::text), '') from generate_series(1, 300) g)";
  await using pipeline = await RunningPipeline.start(
    `create table item (id text, part text, v text, primary key (id));
     alter table item alter v set storage external;
     create table pair (a text, b text, n int, primary key (a, b));
     alter table pair alter b set storage external;
     insert into item values ('a', 'x', 'y'), (${bad("e8")}, 'x', 'y'), (${bad("e9")}, 'x', ${long});
     insert into pair values (${bad("e8")}, 'b', 1), ('a', 'b', 1)`,
    { kinds: ["postgres", "duckdb"], source },
  );
  const unread = async (): Promise<readonly string[]> =>
    (await pipeline.installation.status()).tables.unreadable.map(({ table }) => table).toSorted();
  await eventually(async () => expect(await unread()).toEqual(["public.item", "public.pair"]));
  await pipeline.run(
    `delete from item where id = ${bad("e8")}; update item set id = 'b' where id = ${bad("e9")};
     update pair set a = 'c', n = 2 where a = ${bad("e8")}; insert into item values ('c', 'x', 'y')`,
  );
  await pipeline.expectEqual(["item", "pair"]);
  expect((await pipeline.installation.status()).tables).toMatchObject({ unreadable: [], suspended: [] });
});

test("a target and a state in LATIN1: a row that the target can't hold is a dead letter, a table with such a name waits", async () => {
  await using target = await freshDatabase(postgres(), "LATIN1");
  await using state = await freshDatabase(postgres(), "LATIN1");
  await using pipeline = await RunningPipeline.start(
    `create table item (id int primary key, v text); insert into item values (1, 'é'), (2, '日'), (3, 'c');
     create table many (id int primary key, v text); insert into many select g, 'x' from generate_series(1, 500) g;
     create table "日本" (id int primary key); insert into "日本" values (1);
     create table named (id int primary key, "本" int); insert into named values (1, 1)`,
    {
      kinds: [],
      configure: (config) => ({
        ...config,
        state: state.url,
        sinks: { latin: { kind: "postgres", url: target.url } },
      }),
    },
  );
  const { installation } = pipeline;
  const holds = async (items: readonly object[], count: number): Promise<void> =>
    await eventually(async () => {
      expect((await target.query("select id, v from item order by id")).rows).toEqual(items);
      expect((await target.query("select count(*)::int as count from many")).rows).toEqual([{ count }]);
    });
  const first = [
    { id: 1, v: "é" },
    { id: 3, v: "c" },
  ];
  await holds(first, 500);
  await pipeline.run(
    `insert into item values (4, '日'); insert into many values (501, 'y'); insert into "日本" values (2)`,
  );
  await pipeline.run("update many set v = '日' where id % 100 = 0");
  await pipeline.run("insert into item values (5, 'ü')");
  await holds([...first, { id: 5, v: "ü" }], 501);
  const { sinks, tables } = await installation.status();
  expect(sinks).toMatchObject([{ deadLetters: 7 }]);
  expect(tables.suspended.map(({ table }) => table).toSorted()).toEqual(["public.named", "public.日本"]);
  expect((await installation.command("check")).stdout).toContain("the target's encoding is LATIN1");
});
