/**
 * The comparison that the end-to-end tests trust: nothing is found in sinks that are right, and every damage in others.
 */
import { writeFileSync } from "node:fs";
import { DuckDBInstance } from "@duckdb/node-api";
import { Redis } from "ioredis";
import { expect, test } from "vitest";
import { runCli } from "../../support/daemon/cli.ts";
import { compareSink, type SinkAddress, type TableDifference } from "../../support/compare/compare.ts";
import { EDGE_TYPES, edgeValues } from "../../support/postgres/postgres-edge-values.ts";
import {
  elasticsearchUrl,
  freshDatabase,
  type FreshDatabase,
  freshIndexPrefix,
  freshKeyPrefix,
  redisUrl,
} from "../../support/run/services.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";

const tables = [
  { schema: "public", table: "edge" },
  { schema: "public", table: 'odd "name": %41' },
];

/** One row per edge value, each in its own column, the others null; a text key of everything that an id must encode. */
async function fill(database: FreshDatabase): Promise<void> {
  await database.query(EDGE_TYPES);
  const columns = edgeValues.map(([native], i) => `c${i} ${native}`);
  await database.query(`create table edge (id int primary key, ${columns.join(", ")})`);
  let id = 0;
  for (const [i, [native, values]] of edgeValues.entries()) {
    await database.query(
      `insert into edge (id, c${i}) select $1 + n, text::${native} from unnest($2::text[]) with ordinality as v (text, n)`,
      [id, values],
    );
    id += values.length;
  }
  await database.query(`create table "odd ""name"": %41" ("a.b" text, "c:d" float8, body text, primary key ("a.b", "c:d"));
    insert into "odd ""name"": %41" values ('', 0, null), ('x:y%z', 'NaN', ''), ('🚀', -1e300, E'\\ufeffmark'),
      (repeat('long', 200), 0.1, repeat('toast', 5000))`);
}

function summary(results: readonly TableDifference[]): object[] {
  return results.map(({ table, missing, extra, different, columns, samples }) => ({
    table,
    missing,
    extra,
    different,
    columns,
    samples,
  }));
}

const clean = tables.map(({ schema, table }) => ({
  table: `${schema}.${table}`,
  missing: 0,
  extra: 0,
  different: 0,
  columns: [],
  samples: [],
}));

test("sinks that are right are equal, and each damage is found", async () => {
  await using source = await freshDatabase();
  await using replica = await freshDatabase();
  await using keys = freshKeyPrefix();
  await using indices = freshIndexPrefix();
  using folder = temporaryFolder();
  await fill(source);
  const json = `${keys.prefix}json:`;
  writeFileSync(
    folder.file("millrace.yaml"),
    `name: ${source.name}
source: { kind: postgres, url: "${source.url}" }
admin: { listen: false }
sinks:
  warehouse: { kind: duckdb, path: w.duckdb }
  replica: { kind: postgres, url: "${replica.url}" }
  hashes: { kind: redis, url: "${redisUrl()}", prefix: "${keys.prefix}hash:" }
  documents: { kind: redis, url: "${redisUrl()}", prefix: "${json}", format: json }
  search: { kind: elasticsearch, url: "${elasticsearchUrl()}", prefix: "${indices.prefix}" }
`,
  );
  const run = await runCli(["run", "--once"], { folder: folder.path });
  expect({ exitCode: run.exitCode, said: run.exitCode === 0 ? "" : run.stderr + run.stdout }).toEqual({
    exitCode: 0,
    said: "",
  });

  const sinks: Record<string, SinkAddress> = {
    warehouse: { kind: "duckdb", path: folder.file("w.duckdb") },
    replica: { kind: "postgres", url: replica.url },
    hashes: { kind: "redis", url: redisUrl(), prefix: `${keys.prefix}hash:` },
    documents: { kind: "redis", url: redisUrl(), prefix: json, format: "json" },
    search: { kind: "elasticsearch", url: elasticsearchUrl(), prefix: indices.prefix },
  };
  const compare = async (sink: SinkAddress) => summary(await compareSink({ source: source.url, sink, tables }));
  for (const [name, sink] of Object.entries(sinks)) expect({ [name]: await compare(sink) }).toEqual({ [name]: clean });

  await damageDuckdb(folder.file("w.duckdb"));
  await replica.query(sqlDamage.join(";"));
  await damageRedis(keys.prefix);
  await damageIndices(indices.prefix);
  for (const [name, sink] of Object.entries(sinks)) {
    const [edge, odd] = await compare(sink);
    expect({ [name]: edge }).toMatchObject({ [name]: { missing: 1, extra: 1, different: 1, columns: ["c0"] } });
    expect({ [name]: odd }).toMatchObject({ [name]: { missing: 0, extra: 0, different: 1, columns: ["body"] } });
    expect({ [name]: odd }).toMatchObject({ [name]: { samples: ["different x%3Ay%25z:NaN: body"] } });
  }
});

/** A value changed, a row too few, a row too many, and an empty text made NULL. */
const sqlDamage = [
  "update public.edge set c0 = not c0 where id = 1",
  "delete from public.edge where id = 2",
  "insert into public.edge (id, _millrace_version, _millrace_commit_time) values (1000000, 1, now())",
  `update public."odd ""name"": %41" set body = null where "a.b" = 'x:y%z'`,
];

async function damageDuckdb(path: string): Promise<void> {
  const instance = await DuckDBInstance.create(path);
  const connection = await instance.connect();
  for (const sql of sqlDamage) await connection.run(sql);
  connection.disconnectSync();
  instance.closeSync();
}

async function damageRedis(prefix: string): Promise<void> {
  const client = new Redis(redisUrl());
  const odd = 'public:odd "name"%3A %2541:x%3Ay%25z:NaN';
  await client.hset(`${prefix}hash:public:edge:1`, "c0", "false");
  await client.unlink(`${prefix}hash:public:edge:2`, `${prefix}json:public:edge:2`);
  await client.hset(`${prefix}hash:public:edge:1000000`, "id", "1000000", "_millrace_version", "1");
  await client.hdel(`${prefix}hash:${odd}`, "body");
  for (const [key, from, to] of [
    ["public:edge:1", '"c0":true', '"c0":false'],
    [odd, '"body":""', '"body":null'],
  ] as const) {
    const text = (await client.get(`${prefix}json:${key}`)) ?? "";
    expect(text).toContain(from);
    await client.set(`${prefix}json:${key}`, text.replace(from, to));
  }
  await client.set(`${prefix}json:public:edge:1000000`, '{"_millrace_version":1,"id":1000000}');
  client.disconnect();
}

async function damageIndices(prefix: string): Promise<void> {
  const edge = `${prefix}public.edge`;
  const odd = `${prefix}public.odd %22name%22%3a %2541`.replaceAll(" ", "%20");
  await changeDocument(edge, "1", '"c0":true', '"c0":false');
  await changeDocument(odd, "x%3Ay%25z:NaN", '"body":""', '"body":null');
  await ask("DELETE", edge, "2", "version=9000000000000000000&version_type=external");
  await ask("PUT", edge, "1000000", "version=1&version_type=external", '{"_millrace_version":1,"id":1000000}');
}

async function changeDocument(index: string, id: string, from: string, to: string): Promise<void> {
  const answer = await ask("GET", index, id, "");
  const [, version = ""] = /"_version":(\d+)/.exec(answer) ?? [];
  const [, document = ""] = /"_source":(.*)\}$/s.exec(answer) ?? [];
  expect(document).toContain(from);
  await ask("PUT", index, id, `version=${version}&version_type=external_gte`, document.replace(from, to));
}

async function ask(method: string, index: string, id: string, query: string, body?: string): Promise<string> {
  const address = `${elasticsearchUrl()}/${encodeURIComponent(index)}/_doc/${encodeURIComponent(id)}?${query}`;
  const headers = { "content-type": "application/json" };
  const answer = await fetch(address, { method, ...(body === undefined ? {} : { body, headers }) });
  const text = await answer.text();
  expect({ status: answer.status, text }).toMatchObject({ status: expect.toSatisfy((status) => status < 300) });
  return text;
}
