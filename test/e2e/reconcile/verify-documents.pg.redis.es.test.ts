/** `millrace verify` on an index and a cache that a worker of the home-made kind fills, under 100 transactions a second. */
import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Cluster, Redis } from "ioredis";
import { Client, Pool } from "pg";
import { parse } from "yaml";
import { describe, expect, test } from "vitest";
import { ownRedisCluster } from "../../support/caches/redis-cluster.ts";
import { runCli } from "../../support/daemon/cli.ts";
import {
  elasticsearchUrl,
  freshDatabase,
  freshIndexPrefix,
  freshKeyPrefix,
  type FreshPrefix,
  redisUrl,
  searchEngines,
} from "../../support/run/services.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";
import { eventually, patient } from "../../support/run/waiting.ts";

type Row = Readonly<Record<string, unknown>>;

/** What a worker writes for rows, and how. */
interface Store extends AsyncDisposable {
  readonly url: string;
  readonly key: string;
  readonly isTyped: boolean;
  put(rows: readonly Row[]): Promise<void>;
  remove(ids: readonly number[]): Promise<void>;
}

const TABLE = "shoplines";
const COLUMNS = `id int primary key, note text, amount numeric(12,2), is_paid boolean, placed_at timestamptz, day date, data jsonb,
  tags text[], ref uuid, raw bytea`;

function index(): Store {
  const url = elasticsearchUrl();
  const prefix = freshIndexPrefix(url);
  const name = `${prefix.prefix}${TABLE}`;
  const bulk = async (lines: readonly object[]): Promise<void> => {
    const body = lines.map((line) => `${JSON.stringify(line)}\n`).join("");
    const headers = { "content-type": "application/x-ndjson" };
    const answer = await fetch(`${url}/${name}/_bulk?refresh=true`, { method: "POST", headers, body });
    expect(await answer.json()).toMatchObject({ errors: false });
  };
  return {
    url,
    key: "{id}",
    isTyped: true,
    // As row_to_json prints it; bytes as base64.
    put: (rows) => bulk(rows.flatMap((row) => [{ index: { _id: String(row["id"]) } }, row])),
    remove: (ids) => bulk(ids.map((id) => ({ delete: { _id: String(id) } }))),
    [Symbol.asyncDispose]: () => prefix[Symbol.asyncDispose](),
  };
}

function cache(write: (client: Redis, key: string, row: Row) => Promise<unknown>, isTyped: boolean) {
  return (): Store => {
    const prefix: FreshPrefix = freshKeyPrefix();
    const client = new Redis(redisUrl());
    const keyOf = (id: unknown): string => `${prefix.prefix}shopline:${String(id)}`;
    return {
      url: redisUrl(),
      key: keyOf("{id}"),
      isTyped,
      put: async (rows) => void (await Promise.all(rows.map((row) => write(client, keyOf(row["id"]), row)))),
      remove: async (ids) => void (await client.del(...ids.map(keyOf))),
      [Symbol.asyncDispose]: async () => {
        client.disconnect();
        await prefix[Symbol.asyncDispose]();
      },
    };
  };
}

const hashes = cache(async (client, key, row) => {
  // A client that writes text alone: nulls are empty, and times are numbers.
  const fields = Object.entries(row).flatMap(([name, value]) => {
    if (name === "placed_at") return [name, String(Date.parse(String(value)))];
    return [name, value === null ? "" : typeof value === "string" ? value : JSON.stringify(value)];
  });
  await client
    .multi()
    .del(key)
    .hset(key, ...fields)
    .exec();
}, false);

/** Its id is in the key alone. */
const strings = cache(async (client, key, { is_paid: isPaid, placed_at: placedAt, ...row }) => {
  const changed = { ...row, id: undefined, isPaid, placedAt: new Date(String(placedAt)).toISOString() };
  await client.set(key, JSON.stringify(changed));
}, true);

const ROWS = 3_000;
const CHANGED = `note = note || '.', amount = amount + 1, placed_at = date_trunc('milliseconds', clock_timestamp())`;

const STATEMENTS = [
  `insert into ${TABLE} (id, note, placed_at) values ($1, 'new', date_trunc('milliseconds', now()))`,
  `delete from ${TABLE} where id = $1`,
  `update ${TABLE} set ${CHANGED} where id = $1`,
];

describe.each([
  ["an index", index],
  ["hashes", hashes],
  ["strings of JSON", strings],
] as const)("%s", (_name, open) => {
  test("it finds exactly what was planted, and nothing of what is on its way", { tags: "heavy" }, async () => {
    await using source = await freshDatabase();
    await using store = open();
    using folder = temporaryFolder();
    await source.query(`create table ${TABLE} (${COLUMNS})`);
    await source.query(
      `insert into ${TABLE} select g, 'note ' || g, g * 1.5, g % 2 = 0, date_trunc('milliseconds', now()), date '2026-01-01' + g % 300,
         jsonb_build_object('b', g, 'a', 1.50), array['x', g::text], gen_random_uuid(), decode(md5(g::text), 'hex')
       from generate_series(1, ${ROWS}) g`,
    );
    await source.query(
      `update ${TABLE} set note = null, amount = null, is_paid = null, data = null, ref = null, day = null where id % 10 = 0`,
    );
    const pool = new Pool({ connectionString: source.url, max: 1 });
    const fetched = async (ids: readonly number[] | null): Promise<Row[]> => {
      const { rows } = await pool.query<{ readonly row: Row }>(
        `select row_to_json(t)::jsonb || jsonb_build_object('raw', encode(raw, 'base64')) as row from ${TABLE} t
         where $1::int[] is null or id = any($1)`,
        [ids],
      );
      return rows.map(({ row }) => row);
    };
    await store.put(await fetched(null));

    const stopping = new AbortController();
    const changed = new Set<number>();
    const writer = new Client({ connectionString: source.url });
    await writer.connect();
    const writing = (async () => {
      for (let i = 0; !stopping.signal.aborted; i++) {
        const added = ROWS + 10 + i - (i % 3);
        const id = i % 3 < 2 ? added : 1 + ((i * 7919) % (ROWS - 100));
        await writer.query(STATEMENTS[i % 3]!, [id]);
        changed.add(id);
        await sleep(8);
      }
    })();
    const working = (async () => {
      while (!stopping.signal.aborted || changed.size > 0) {
        const ids = [...changed];
        changed.clear();
        const rows = await fetched(ids);
        const gone = new Set(ids);
        for (const row of rows) gone.delete(Number(row["id"]));
        if (rows.length > 0) await store.put(rows);
        if (gone.size > 0) await store.remove([...gone]);
        await sleep(100);
      }
    })();
    const map = folder.file("map.yaml");
    const verify = async (...args: readonly string[]) => {
      const all = ["verify", "--source", source.url, "--target", store.url, "--settle", `${patient(2)}s`, ...args];
      // It looks into all indices of the cluster: that of another test may lack its shard at the moment.
      return await eventually(async () => {
        const { exitCode, stdout, stderr } = await runCli(all, { folder: folder.path, timeoutMs: 120_000 });
        expect(stdout, stderr).not.toBe("");
        return { exitCode, stdout };
      });
    };
    const found = async () => {
      const { exitCode, stdout } = await verify("--map", map, "--json");
      return { exitCode, ...JSON.parse(stdout) };
    };
    try {
      const suggestion = await verify("--suggest");
      const { tables } = parse(suggestion.stdout);
      expect(tables).toMatchObject({ [`public.${TABLE}`]: { key: store.key } });
      expect(tables[`public.${TABLE}`]).not.toHaveProperty("ignore");
      writeFileSync(map, suggestion.stdout);
      const equal = await found();
      expect(equal, JSON.stringify(equal)).toMatchObject({ exitCode: 0, drift: false, notComparable: [] });

      // Planted where the writer does not write.
      const first = ROWS - 99;
      const rows = await fetched([first + 2, first + 3, first + 4, first + 5, first + 6]);
      const [data, tags, amount, at, paid] = rows.toSorted((a, b) => Number(a["id"]) - Number(b["id"]));
      await store.remove([first, first + 1]);
      await store.put([
        { ...data, data: { a: 1.5, b: 0 } },
        { ...tags, tags: ["x"] },
        { ...amount, amount: Number(amount!["amount"]) + 0.01 },
        { ...at, placed_at: "2020-01-01T00:00:00+00:00" },
        { ...paid, is_paid: paid!["is_paid"] === false },
        { ...paid, id: -1, note: "only here" },
      ]);
      if (store.isTyped) await store.put([{ ...(await fetched([ROWS]))[0], note: "" }]);
      const drift = await found();
      const different = store.isTyped ? 6 : 5;
      expect(drift, JSON.stringify(drift)).toMatchObject({ exitCode: 3, notComparable: [] });
      expect(drift.tables).toMatchObject([{ table: `public.${TABLE}`, missing: 2, extra: 1, different, moving: 0 }]);
      const sample = drift.tables[0].sample.map(({ kind, key, columns }: Record<string, unknown>) => ({
        kind,
        key,
        columns,
      }));
      expect(sample).toHaveLength(different + 3);
      const listed = (kind: string, id: number, ...columns: string[]) => ({ kind, key: { id: String(id) }, columns });
      expect(sample).toEqual(
        expect.arrayContaining([
          listed("missing", first),
          listed("missing", first + 1),
          listed("different", first + 2, "data"),
          listed("different", first + 3, "tags"),
          listed("different", first + 4, "amount"),
          listed("different", first + 5, "placed_at"),
          listed("different", first + 6, "is_paid"),
          listed("extra", -1),
          ...(store.isTyped ? [listed("different", ROWS, "note")] : []),
        ]),
      );
    } finally {
      stopping.abort();
      await Promise.all([writing, working]);
      await writer.end();
      await pool.end();
    }
  });
});

async function verified(source: string, target: string, folder: { readonly path: string }, ...args: readonly string[]) {
  const all = ["verify", "--source", source, "--target", target, "--settle", "100ms", ...args];
  const { exitCode, stdout, stderr } = await runCli(all, { folder: folder.path });
  expect(stdout, stderr).not.toBe("");
  return { exitCode, stdout };
}

describe.each(searchEngines())("$name", (engine) => {
  test("documents under keys of several columns, some of them marked as deleted", async () => {
    const url = engine.url();
    await using source = await freshDatabase();
    await using indices = freshIndexPrefix(url);
    using folder = temporaryFolder();
    await source.query(`create table pairlines (a text, b int, v int, at timestamp, primary key (a, b));
      insert into pairlines values ('x_1', 1, 10, '2026-01-02 03:04:05.678'), ('x', 2, 20, '2026-01-02 03:04:05'), ('y:z', 3, null, null)`);
    const send = async (path: string, body: object): Promise<void> => {
      const headers = { "content-type": "application/json" };
      const to = `${url}/${indices.prefix}pairlines${path}`;
      const answer = await fetch(to, { method: "PUT", headers, body: JSON.stringify(body) });
      expect(answer.status).toBeLessThan(300);
    };
    await send("", { settings: { number_of_shards: 5 }, mappings: { properties: { at: { type: "date" } } } });
    await send("/_doc/x_1_1?refresh", { a: "x_1", b: 1, v: 10, at: Date.parse("2026-01-02T03:04:05.678Z") });
    await send("/_doc/x_2?refresh", { a: "x", b: 2, v: "20", at: "2026-01-02T04:04:05+01:00", __deleted: "false" });
    await send("/_doc/y%3Az_3?refresh", { a: "y:z", b: 3, v: null });
    await send("/_doc/gone_4?refresh", { a: "gone", b: 4, v: 1, __deleted: "true" });
    const suggestion = await verified(source.url, url, folder, "--suggest");
    expect(parse(suggestion.stdout)).toEqual({
      tables: { "public.pairlines": { target: `${indices.prefix}pairlines`, key: "{a}_{b}", deleted: "__deleted" } },
    });
    writeFileSync(folder.file("map.yaml"), suggestion.stdout);
    const pairs = async () => {
      const { exitCode, stdout } = await verified(source.url, url, folder, "--map", folder.file("map.yaml"), "--json");
      return { exitCode, ...JSON.parse(stdout) };
    };
    expect(await pairs()).toMatchObject({ exitCode: 0, notComparable: [], tables: [{ sourceRows: 3, sinkRows: 3 }] });
    // Under another shard than its id tells.
    await send("/_doc/x_2?refresh&routing=elsewhere", { a: "x", b: 2, v: 21, at: "2026-01-02T04:04:05+01:00" });
    await fetch(`${url}/${indices.prefix}pairlines/_doc/x_2?refresh`, { method: "DELETE" });
    await send("/_doc/more_5?refresh", { a: "more", b: 5 });
    const sample = [
      { kind: "different", key: { a: "x", b: "2" }, columns: ["v"] },
      { kind: "extra", key: { a: "more", b: "5" } },
    ];
    expect(await pairs()).toMatchObject({
      exitCode: 3,
      tables: [
        {
          missing: 0,
          extra: 1,
          different: 1,
          sample: expect.arrayContaining(sample.map((one) => expect.objectContaining(one))),
        },
      ],
    });
  });
});

test("keys that a map tells, beside others", async () => {
  await using source = await freshDatabase();
  await using keys = freshKeyPrefix();
  using folder = temporaryFolder();
  await source.query(
    "create table notelines (id text primary key, body text); insert into notelines values ('n1', 'one'), ('n2', 'two')",
  );
  const client = new Redis(redisUrl());
  const start = `${keys.prefix}cached/`;
  await client.hset(`${start}n1/note`, { body: "one", further: "1" });
  await client.set(`${start}n2/note`, "no hash");
  await client.hset(`${start}n3/note`, { body: "three" });
  await client.set(`${start}counter`, "7");
  client.disconnect();

  const unknown = await verified(source.url, redisUrl(), folder, "--json");
  expect({ exitCode: unknown.exitCode, ...JSON.parse(unknown.stdout) }).toMatchObject({
    exitCode: 1,
    notComparable: [{ reason: "the target has no table for it; name one in --map" }],
  });
  writeFileSync(folder.file("map.yaml"), `tables: { public.notelines: { key: "${start}{id}/note" } }`);
  const notes = await verified(source.url, redisUrl(), folder, "--map", folder.file("map.yaml"), "--json");
  const sample = [
    { kind: "missing", key: { id: "n2" } },
    { kind: "extra", key: { id: "n3" } },
  ];
  expect({ exitCode: notes.exitCode, ...JSON.parse(notes.stdout) }, notes.stdout).toMatchObject({
    exitCode: 3,
    notComparable: [],
    tables: [
      {
        sourceRows: 2,
        sinkRows: 2,
        missing: 1,
        extra: 1,
        different: 0,
        sample: expect.arrayContaining(sample.map((one) => expect.objectContaining(one))),
      },
    ],
  });
});

test("keys that lie on several nodes of a cluster, whichever of them the URL names", async () => {
  await using source = await freshDatabase();
  await using nodes = await ownRedisCluster();
  using folder = temporaryFolder();
  const count = 600;
  await source.query(
    `create table spreadlines (id int primary key, note text); insert into spreadlines select g, 'note ' || g from generate_series(1, ${count}) g`,
  );
  const client = new Cluster([nodes.url], { natMap: nodes.direct });
  const ids = Array.from({ length: count }, (_, i) => i + 1);
  await Promise.all(ids.map((id) => client.hset(`spreadline:${id}`, { id: String(id), note: `note ${id}` })));
  const compared = async (url: string) => {
    const { exitCode, stdout } = await verified(source.url, url, folder, "--json");
    return { exitCode, ...JSON.parse(stdout) };
  };
  const whole = { sourceRows: count, sinkRows: count, missing: 0, extra: 0, different: 0 };
  for (const url of nodes.urls) expect(await compared(url)).toMatchObject({ exitCode: 0, tables: [whole] });
  await Promise.all([1, 2, 3, 4, 5].map((id) => client.del(`spreadline:${id}`)));
  await Promise.all([6, 7, 8, 9, 10].map((id) => client.hset(`spreadline:${id}`, { note: "theirs" })));
  await Promise.all(
    [-1, -2, -3, -4, -5].map((id) => client.hset(`spreadline:${id}`, { id: String(id), note: "theirs" })),
  );
  client.disconnect();
  expect(await compared(nodes.urls[1]!)).toMatchObject({
    exitCode: 3,
    tables: [{ missing: 5, extra: 5, different: 5, moving: 0 }],
  });
});
