/** The cheap way of each sink to tell that rows are equal: it says so of all that are, and of nothing else. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { expect, test } from "vitest";
import { DuckdbInspection } from "../../connectors/duckdb/inspect/inspect.ts";
import { SearchClient } from "../../connectors/elasticsearch/http.ts";
import { ElasticsearchInspection } from "../../connectors/elasticsearch/inspect.ts";
import { PostgresInspection } from "../../connectors/postgres/sink/inspect.ts";
import { FencedSession } from "../../connectors/postgres/sink/wire/fenced-session.ts";
import { parsePostgresUrl } from "../../src/postgres/url.ts";
import { RedisInspection } from "../../connectors/redis/inspect.ts";
import { ByteWriter } from "../../src/core/bytes.ts";
import type { Inspection } from "../../src/core/contracts/comparing.ts";
import { spelledJson } from "../../src/core/targets/expected-json.ts";
import { addRead, finishRead, readBlock } from "../../src/core/model/block.ts";
import { expectedCells, wantedRows } from "../../src/reconcile/rows/judge.ts";
import { timeout } from "../conformance/stage.ts";
import { tableVersion, tupleOf } from "../support/model/blocks.ts";
import { runInFile } from "../support/warehouses/duckdb-file.ts";
import { searchCall } from "../support/caches/search-rows.ts";
import { freshDatabase, freshIndexPrefix, freshKeyPrefix, redisUrl, searchEngines } from "../support/run/services.ts";

const COUNT = 40;
const VERSION_MAX = 900n;
const FORM = { deletes: "hard", mode: "mirror" } as const;
const NAMES = [
  "plain",
  "tab\there",
  "line\nbreak",
  String.raw`\N`,
  String.raw`back\slash`,
  "ä 🜁",
  "~",
  "1:x",
  "'",
  "\u0001",
];

const item = tableVersion({
  table: "item",
  columns: { name: "text", id: "int8", note: "text", amount: "numeric(12,2)", seen: "timestamptz", weight: "float8" },
  key: ["id"],
});

type Row = readonly (string | null)[];
const rows = Array.from({ length: COUNT }, (_, id): Row => {
  const note = [null, "", "x"][id % 3]!;
  return [NAMES[id % NAMES.length]!, String(id), note, `${id + 1}.50`, "2026-11-20 06:43:15.123456+00", `${id}.25`];
});

/** What the sink has in place of a row, and its version; null: nothing. */
const PLANTED: ReadonlyMap<number, { readonly row: Row; readonly version: bigint } | null> = new Map([
  [3, null],
  [5, { row: rows[5]!.with(0, "other"), version: 1n }],
  [6, { row: rows[6]!.with(2, ""), version: 1n }],
  [7, { row: rows[7]!.with(2, null), version: 1n }],
  // What one column ends with begins the next.
  [8, { row: rows[8]!.with(0, "~1").with(2, ""), version: 1n }],
  [9, { row: rows[9]!.with(4, "2026-11-20 06:43:15.123457+00"), version: 1n }],
  [11, { row: rows[11]!, version: VERSION_MAX + 1n }],
]);
const held = rows.flatMap((row, id) => {
  const planted = PLANTED.get(id);
  return planted === null ? [] : [planted ?? { row, version: VERSION_MAX }];
});
/** The source has no such row. */
const STRAY = { row: rows[0]!.with(1, "12345"), version: 1n };

async function equalIn(inspection: Inspection): Promise<readonly number[] | null> {
  const out = new ByteWriter(1024);
  const block = readBlock(item, 1, out);
  // The stray lies between them.
  for (const row of [...rows, rows[1]!.with(1, "20000")]) {
    const at = out.length;
    const tuple = tupleOf(row);
    out.copy(tuple, 0, tuple.length);
    addRead(block, at);
  }
  finishRead(block, out, { epoch: 1, commit: 1n, index: 0 });
  const wanted = wantedRows(
    inspection,
    item,
    { block, from: 0, to: block.count, isByLog: false, versionMax: VERSION_MAX },
    () => true,
  );
  const asked = {
    block,
    rows: wanted.map(({ row }) => row),
    keys: wanted.map(({ key }) => key),
    ids: wanted.map(({ id }) => id),
    cells: (i: number) => expectedCells(inspection, item, block, i),
    versionMax: VERSION_MAX,
  };
  const found = await inspection.equal!(item, asked, timeout());
  if (found === null) return null;
  const equal = [...found.isEqual.entries()].filter(([, is]) => is === 1).map(([id]) => id);
  expect(found.byteCount).toBeGreaterThan(equal.length * 40);
  return equal;
}

const EQUAL = rows.map((_, id) => id).filter((id) => !PLANTED.has(id));

function quoted(text: string | null): string {
  return text === null ? "NULL" : `'${text.replaceAll("'", "''")}'`;
}

const SQL = `create table public.item (id bigint primary key, name text, note text, amount numeric(12,2), seen timestamptz,
    weight double precision, _millrace_version bigint not null);
  ${[...held, STRAY].map(({ row, version }) => `insert into public.item (name, id, note, amount, seen, weight, _millrace_version) values (${row.map(quoted).join(", ")}, ${version})`).join("; ")}`;

test("Postgres", async () => {
  await using database = await freshDatabase();
  await database.query(SQL);
  const address = parsePostgresUrl(database.url);
  const session = new FencedSession({ name: "replica", checkpointName: "shop/replica", address });
  await using inspection = new PostgresInspection(session, undefined, FORM);
  expect(await equalIn(inspection)).toEqual(EQUAL);
  // Where the target has another order, or none of the keys, it is asked row by row from then on.
  await database.query("delete from public.item where id < 30");
  expect(await equalIn(inspection)).toHaveLength(10);
  expect(
    await inspection.equal(
      item,
      { block: null!, rows: [0], keys: [["1"]], ids: ["1"], cells: () => [], versionMax: 1n },
      timeout(),
    ),
  ).toBeNull();
});

test("DuckDB", async () => {
  const folder = mkdtempSync(join(tmpdir(), "millrace-equal-"));
  try {
    const path = join(folder, "w.duckdb");
    await runInFile(path, `create schema if not exists public; set TimeZone = 'UTC'; ${SQL}`);
    const options = { schema: undefined, form: FORM };
    await using inspection = await DuckdbInspection.open({ path, memoryLimit: "256MB", threads: 1 }, options);
    expect(await equalIn(inspection)).toEqual(EQUAL);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("Redis", async () => {
  await using prefix = freshKeyPrefix();
  const settings = {
    url: redisUrl(),
    cluster: false,
    tls: { ca: undefined, cert: undefined, certKey: undefined, serverName: undefined },
  };
  await using inspection = new RedisInspection({ ...settings, prefix: prefix.prefix, format: "hash" });
  const client = new Redis(redisUrl());
  try {
    for (const { row, version } of [...held, STRAY]) {
      const fields = item.columns.flatMap(({ name }, i) => {
        const text = row[i] ?? null;
        return text === null ? [] : [name, inspection.expected(item, i, text)!];
      });
      await client.hset(`${prefix.prefix}public:item:${row[1]}`, "_millrace_version", String(version), ...fields);
    }
    await client.hset(`${prefix.prefix}public:item:21`, "stray", "field");
    await client.hset(`${prefix.prefix}public:item:22`, "_millrace_version", "12x");
    expect(await equalIn(inspection)).toEqual(EQUAL.filter((id) => id !== 21 && id !== 22));
  } finally {
    client.disconnect();
  }
});

test.each(searchEngines())("$name", async ({ url }) => {
  await using prefix = freshIndexPrefix(url());
  const alias = `${prefix.prefix}public.item`;
  const call = async (method: string, path: string, body?: string) => {
    const { status, text } = await searchCall(url(), method, `/${alias}${path}`, body);
    if (status > 201) throw new Error(text);
  };
  // Nothing is searchable by itself.
  await call("PUT", "", '{"settings": {"index": {"number_of_replicas": 0, "refresh_interval": "-1"}}}');
  const tls = { ca: undefined, cert: undefined, certKey: undefined, serverName: undefined };
  const client = new SearchClient({ urls: [url()], apiKey: undefined, tls });
  await using inspection = new ElasticsearchInspection(client, () => alias);
  const put = async (id: string, version: bigint, document: string, further = "") =>
    await call("PUT", `/_doc/${id}?version=${version}&version_type=external_gte${further}`, document);
  const head = (version: bigint) => `{"_millrace_version":${version},"_millrace_commit_time":"2026-11-20T06:43:15.1Z"`;
  const fieldsOf = (row: Row) =>
    item.columns.map(({ name, type }, i) => `,"${name}":${row[i] === null ? "null" : spelledJson(type, row[i]!)}`);
  for (const { row, version } of [...held, STRAY])
    await put(row[1]!, version, `${head(version)}${fieldsOf(row).join("")}}`);
  const whole = fieldsOf(rows[21]!).join("");
  await put("21", VERSION_MAX, `${head(VERSION_MAX)}${whole},"stray":1}`);
  await put("22", VERSION_MAX, `${head(VERSION_MAX - 1n)}${fieldsOf(rows[22]!).join("")}}`);
  await put("24", VERSION_MAX, `${head(VERSION_MAX)}${fieldsOf(rows[24]!).join("")}}`.replace('"id":24', '"id":24.0'));
  await put("25", VERSION_MAX, `${head(VERSION_MAX)}${fieldsOf(rows[25]!).join("")}}`.replace('"id":25', '"id":"25"'));
  await put("26", VERSION_MAX, `${head(VERSION_MAX)}${fieldsOf(rows[26]!).join("")}}`, "&routing=elsewhere");
  const others = [21, 22, 24, 25, 26];
  expect(await equalIn(inspection)).toEqual(EQUAL.filter((id) => !others.includes(id)));
  // Just now, by somebody who does not wait for a refresh.
  await put("30", VERSION_MAX, `${head(VERSION_MAX)}${fieldsOf(rows[30]!.with(0, "changed")).join("")}}`);
  expect(await equalIn(inspection)).toEqual(EQUAL.filter((id) => ![30, ...others].includes(id)));
  // Pages are larger than its settings allow: it is asked by id from then on.
  await call("PUT", "/_settings", '{"index": {"max_result_window": 10}}');
  expect(await equalIn(inspection)).toBeNull();
});
