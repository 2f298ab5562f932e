/** `millrace verify` on targets that are no sources: as their tools fill them, with deleted rows marked, and types of their own. */
import { writeFileSync } from "node:fs";
import { createClient } from "@clickhouse/client";
import { DuckDBInstance } from "@duckdb/node-api";
import { parse } from "yaml";
import { expect, test } from "vitest";
import { runCli } from "../../support/daemon/cli.ts";
import { clickhouseUrl, freshDatabase } from "../../support/run/services.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";

const SOURCE = `create table items (id bigint primary key, paid boolean, amount numeric(12,2), weight float8, at timestamptz, seen timestamp,
    day date, data jsonb, tags text[], note text, raw bytea, ref uuid);
  create table pairs (a text, b int, v int, primary key (a, b));
  insert into items values
    (1, true, 1.50, 0.1, '2026-02-03 05:05:06.5+01', '2026-02-03 04:05:06.12', '2026-02-03', '{"b": [1, 2.50], "a": null}', array['x', 'y'], 'it''s é', '\\x00ff', '7d444840-9dc0-11d1-b245-5ffdce74fad2'),
    (2, false, -0.01, 1e20, '1999-12-31 23:59:59Z', '1999-12-31 23:59:59', '1970-01-01', '"x"', '{}', '', '\\x', null),
    (3, null, null, 'NaN', null, null, null, null, null, null, null, null);
  insert into pairs values ('x', 1, 10), ('x', 2, 20), ('y', 1, 30)`;

interface Target {
  readonly url: string;
  run(sql: string): Promise<void>;
}

async function verified({ url }: { readonly url: string }, source: string, folder: string, ...args: readonly string[]) {
  const all = ["verify", "--source", source, "--target", url, "--settle", "200ms", "--json", ...args];
  const { exitCode, stdout, stderr } = await runCli(all, { folder });
  expect(stdout, stderr).not.toBe("");
  return { exitCode, ...JSON.parse(stdout) };
}

/** Equal at first; then one row each is missing, extra and different. */
async function expectFound(target: Target, source: string, folder: string, ...args: readonly string[]): Promise<void> {
  const equal = await verified(target, source, folder, ...args);
  expect(equal, JSON.stringify(equal)).toMatchObject({ exitCode: 0, drift: false, notComparable: [] });
  expect(equal.tables.map((one: { sourceRows: number; sinkRows: number }) => [one.sourceRows, one.sinkRows])).toEqual([
    [3, 3],
    [3, 3],
  ]);
  await target.run("INSERT INTO pairs (a, b, v) VALUES ('x', 3, 0)");
  await target.run("DELETE FROM pairs WHERE a = 'y'");
  await target.run("DELETE FROM items WHERE id = 2");
  const { exitCode, tables } = await verified(target, source, folder, ...args);
  expect({ exitCode, tables }).toMatchObject({
    exitCode: 3,
    tables: [
      { table: "public.items", missing: 1, extra: 0, different: 0, sample: [{ kind: "missing", key: { id: "2" } }] },
      {
        table: "public.pairs",
        missing: 1,
        extra: 1,
        different: 0,
        sample: expect.arrayContaining([
          expect.objectContaining({ kind: "missing", key: { a: "y", b: "1" } }),
          expect.objectContaining({ kind: "extra", key: { a: "x", b: "3" } }),
        ]),
      },
    ],
  });
}

test("a DuckDB file", async () => {
  await using source = await freshDatabase();
  using folder = temporaryFolder();
  await source.query(SOURCE);
  const url = folder.file("dw.duckdb");
  const run = async (sql: string): Promise<void> => {
    const instance = await DuckDBInstance.create(url);
    const connection = await instance.connect();
    await connection.run(sql);
    connection.disconnectSync();
    instance.closeSync();
  };
  await run(`CREATE TABLE items (id UBIGINT, paid BOOLEAN, amount DECIMAL(20,4), weight DOUBLE, "at" TIMESTAMPTZ, seen TIMESTAMP,
      day DATE, data JSON, tags VARCHAR[], note VARCHAR, raw BLOB, ref UUID, loaded_at TIMESTAMP);
    CREATE TABLE pairs (a VARCHAR, b INTEGER, v BIGINT);
    INSERT INTO items VALUES
      (1, true, 1.5, 0.1, '2026-02-03 04:05:06.5+00', '2026-02-03 04:05:06.12', '2026-02-03', '{"a": null, "b": [1, 2.5]}', ['x', 'y'], 'it''s é', '\\x00\\xFF', '7d444840-9dc0-11d1-b245-5ffdce74fad2', now()),
      (2, false, -0.01, 1e20, '1999-12-31 23:59:59+00', '1999-12-31 23:59:59', '1970-01-01', '"x"', [], '', '', null, null),
      (3, null, null, 'NaN', null, null, null, null, null, null, null, null, null);
    INSERT INTO pairs VALUES ('x', 1, 10), ('x', 2, 20), ('y', 1, 30)`);
  await expectFound({ url, run }, source.url, folder.path);
  await run("UPDATE items SET raw = '\\x01', note = 'other' WHERE id = 1");
  const { tables } = await verified({ url }, source.url, folder.path, "--tables", "public.items");
  expect(tables).toMatchObject([
    {
      missing: 1,
      different: 1,
      sample: expect.arrayContaining([expect.objectContaining({ columns: ["note", "raw"] })]),
    },
  ]);
});

test("tables of ClickHouse that keep versions of their rows, some of them marked as deleted", async () => {
  await using source = await freshDatabase();
  using folder = temporaryFolder();
  await source.query(SOURCE);
  await source.query("alter table items drop column raw");
  const database = `verify_${source.name}`;
  const { origin, username, password } = new URL(clickhouseUrl());
  const client = createClient({ url: origin, username: username || "default", password });
  const run = async (query: string): Promise<void> => {
    await client.command({ query, clickhouse_settings: { mutations_sync: "2" } });
  };
  await run(`CREATE DATABASE ${database}`);
  try {
    const own = (sql: string) => run(sql.replace(/(TABLE|INTO|FROM|UPDATE) (\w+)/, `$1 ${database}.$2`));
    await own(`CREATE TABLE items (id UInt64, paid Nullable(Bool), amount Nullable(Decimal(20, 4)), weight Nullable(Float64),
        at Nullable(DateTime64(3, 'Europe/Vienna')), seen Nullable(DateTime64(6)), day Nullable(Date32), data Nullable(String),
        tags Array(String), note LowCardinality(Nullable(String)), ref Nullable(UUID), _peerdb_is_deleted UInt8, _peerdb_version Int64)
      ENGINE = ReplacingMergeTree(_peerdb_version) ORDER BY id`);
    await own("CREATE TABLE pairs (a String, b Int32, v Int64) ENGINE = MergeTree ORDER BY (a, b)");
    await own(`INSERT INTO items VALUES
      (1, true, 9, 0.1, '2026-02-03 05:05:06.5', '2026-02-03 04:05:06.12', '2026-02-03', '{}', [], '', null, 0, 1),
      (4, true, 9, 0.1, null, null, null, null, [], null, null, 0, 1)`);
    await own(`INSERT INTO items VALUES
      (1, true, 1.5, 0.1, '2026-02-03 05:05:06.5', '2026-02-03 04:05:06.12', '2026-02-03', '{"a": null, "b": [1, 2.5]}', ['x', 'y'], 'it\\'s é', '7d444840-9dc0-11d1-b245-5ffdce74fad2', 0, 2),
      (2, false, -0.01, 1e20, '2000-01-01 00:59:59', '1999-12-31 23:59:59', '1970-01-01', '"x"', [], '', null, 0, 1),
      (3, null, null, nan, null, null, null, null, [], null, null, 0, 1),
      (4, true, 9, 0.1, null, null, null, null, [], null, null, 1, 2)`);
    await own("INSERT INTO pairs VALUES ('x', 1, 10), ('x', 2, 20), ('y', 1, 30)");
    const { host } = new URL(origin);
    const login = username === "" ? "" : `${username}:${password}@`;
    const url = `clickhouse://${login}${host}/${database}`;
    // An array has no null there.
    await source.query("update items set tags = '{}' where tags is null");
    const suggesting = await runCli(["verify", "--source", source.url, "--target", url, "--suggest"], {
      folder: folder.path,
    });
    expect(parse(suggesting.stdout)).toEqual({
      tables: {
        "public.items": { target: `${database}.items`, deleted: "_peerdb_is_deleted" },
        "public.pairs": { target: `${database}.pairs` },
      },
    });
    writeFileSync(folder.file("map.yaml"), suggesting.stdout);
    await expectFound({ url, run: own }, source.url, folder.path, "--map", folder.file("map.yaml"));
  } finally {
    await run(`DROP DATABASE ${database}`);
    await client.close();
  }
});

test("a target that can't be compared is refused with the reason", async () => {
  using folder = temporaryFolder();
  const { exitCode, stderr } = await runCli(
    ["verify", "--source", "postgres://nobody@127.0.0.1:1/none", "--target", "kafka://127.0.0.1:1"],
    { folder: folder.path },
  );
  expect({ exitCode, stderr }).toEqual({ exitCode: 2, stderr: expect.stringContaining("kind kafka") });
});
