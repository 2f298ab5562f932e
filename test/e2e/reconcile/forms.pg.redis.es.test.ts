/** `reconcile` over what is not a plain mirror: soft deletes, histories, rules of every kind, chosen keys, keys of texts. */
import { createHmac } from "node:crypto";
import { join } from "node:path";
import { expect, test } from "vitest";
import { rowIdOf } from "../../../src/core/model/row-id.ts";
import { runInFile } from "../../support/warehouses/duckdb-file.ts";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { searchCall } from "../../support/caches/search-rows.ts";
import { elasticsearchUrl } from "../../support/run/services.ts";
import { KEPT_KINDS, SINK_KINDS } from "../../support/daemon/sink-set.ts";

const MASK_KEY = "a-key-of-the-tests-0123456789";
const RULES = {
  "public.person": {
    columns: {
      mail: { mask: "hash" },
      phone: { mask: "partial" },
      note: { mask: "redact" },
      born: { mask: "null" },
      secret: { drop: true },
      status: { rename: "state" },
    },
    where: "status <> 'test'",
  },
  "public.visit": { key: ["code"] },
};

/** Alike, or in another order, to some collation, and of what ids escape. */
const WORDS = [
  "a", "A", "b", "B", "ä", "a\u0308", "ß", "ss", "e", "é", "a ", " a", "", "%", "%25", "a:b", "a%3Ab", "_", "-", "10", "9",
  "tab\there", "line\nbreak", String.raw`back\slash`, `"quoted"`, "it's", "🜁", "\u{ffff}", "sha256:x", "x".repeat(600),
]; // prettier-ignore

const SOURCE = `create collation blind (provider = icu, locale = 'und-u-ks-level2', deterministic = true);
  create table person (id bigint primary key, mail text, phone text, note text, born date, secret text, status text, n int);
  insert into person select g, 'm' || g, '+49 30 ' || 1000 + g, 'note', '1990-01-01', 's' || g,
    case g % 3 when 0 then 'test' else 'open' end, 0 from generate_series(1, 300) g;
  create table visit (id int primary key, code text not null unique, n int);
  alter table visit replica identity full;
  insert into visit select g, 'c:' || g, 0 from generate_series(1, 100) g`;

/** Deleted, changed and put back again: forms that keep what is gone have something to keep. */
const CHANGES = `delete from person where id between 200 and 220; update person set n = 1 where id between 100 and 120;
  insert into person select g, 'again', '1', 'x', null, null, 'open', 2 from generate_series(200, 202) g;
  update person set status = 'test' where id = 10; update person set status = 'open' where id = 9;
  update visit set code = 'd:' || id where id <= 10; delete from visit where id = 50; delete from word where w in ('b', '10')`;

const hashed = (text: string) => createHmac("sha256", MASK_KEY).update(text).digest("hex");

type Sql = readonly (readonly [sql: string, found: readonly string[]])[];

/** In a mirror, whatever it does with deletes; `$` stands for its schema. */
const IN_MIRROR: Sql = [
  [`update $.person set mail = 'm20' where id = 20`, ["public.person 20 different mail"]],
  [`update $.person set mail = '${hashed("m1")}' where id = 22`, ["public.person 22 different mail"]],
  [`update $.person set phone = '****' where id = 23`, ["public.person 23 different phone"]],
  [`update $.person set note = 'note' where id = 25`, ["public.person 25 different note"]],
  [`update $.person set born = '1990-01-01' where id = 26`, ["public.person 26 different born"]],
  [`update $.person set state = 'test' where id = 28`, ["public.person 28 different state"]],
  [`delete from $.person where id = 29`, ["public.person 29 missing"]],
  // One that the filter leaves out, and one that was deleted.
  [insert("$.person", "id, state", "30, 'open'"), ["public.person 30 extra"]],
  [`delete from $.visit where code = 'c:60'`, ["public.visit c:60 missing"]],
  [`update $.visit set id = -1 where code = 'd:3'`, ["public.visit d:3 different id"]],
  [insert("$.visit", "code", "'c:3'"), ["public.visit c:3 extra"]],
  [`delete from $.word where w = 'ä' and n = 1`, ["public.word ä 1 missing"]],
  [`update $.word set v = 'x' where w = 'A' and n = 1`, ["public.word A 1 different v"]],
  [`update $.word set v = 'x' where w = '' and n = 2`, ["public.word  2 different v"]],
  [insert("$.word", "w, n", "'Ä', 1"), ["public.word Ä 1 extra"]],
  [`delete from $.word where length(w) = 600 and n = 2`, [`public.word ${"x".repeat(600)} 2 missing`]],
];
const IN_SOFT: Sql = [
  [`update $.person set _millrace_deleted = true where id = 31`, ["public.person 31 missing"]],
  [`update $.person set _millrace_deleted = false where id = 205`, ["public.person 205 extra"]],
  // It is gone: what stands there is nobody's.
  [`update $.person set n = -1 where id = 206`, []],
];
const CURRENT = "_millrace_version = (select max(_millrace_version) from $.person as p where p.id = person.id)";
const IN_HISTORY: Sql = [
  [`update $.person set n = -1 where id = 100 and ${CURRENT}`, ["public.person 100 different n"]],
  // Before it was changed.
  [`update $.person set n = -1 where id = 101 and not ${CURRENT}`, []],
  [`update $.person set _millrace_op = 'd' where id = 32`, ["public.person 32 missing"]],
  [`delete from $.person where id = 205 and _millrace_op = 'd'`, ["public.person 205 extra"]],
  [`delete from $.person where id = 103 and ${CURRENT}`, ["public.person 103 different n"]],
  [`delete from $.word where w = 'ä' and n = 1`, ["public.word ä 1 missing"]],
  [`delete from $.visit where code = 'c:60'`, ["public.visit c:60 missing"]],
];

function insert(table: string, columns: string, values: string): string {
  return `insert into ${table} (${columns}, _millrace_version, _millrace_commit_time) values (${values}, 1, now())`;
}

function plan(schema: string, ...all: readonly Sql[]): { sql: string; found: string[] } {
  const faults = all.flat();
  return {
    sql: faults.map(([sql]) => sql.replaceAll("$", schema)).join("; "),
    found: faults.flatMap(([, found]) => found).toSorted(),
  };
}

const PLANS = {
  postgres: plan("public", IN_MIRROR),
  "postgres-soft": plan(
    "soft",
    IN_MIRROR.filter(([sql]) => !sql.includes("'c:3'")),
    IN_SOFT,
  ),
  "postgres-history": plan("history", IN_HISTORY),
  duckdb: plan("public", IN_MIRROR),
  "duckdb-soft": plan(
    "public",
    IN_MIRROR.filter(([sql]) => !sql.includes("'c:3'")),
    IN_SOFT,
  ),
  "duckdb-history": plan("public", IN_HISTORY),
} as const;

const IN_STORES = [
  "public.person 20 different mail",
  "public.person 21 extra",
  "public.visit d:3 missing",
  "public.visit c:3 extra",
  "public.word  2 different v",
  "public.word Ä 1 extra",
  `public.word ${"x".repeat(600)} 2 missing`,
].toSorted();

async function plantInCache(pipeline: RunningPipeline): Promise<void> {
  using cache = pipeline.cache();
  const at = (table: string, ...key: readonly string[]) => `${pipeline.sinks.keyPrefix}public:${table}:${rowIdOf(key)}`;
  await cache.hset(at("person", "20"), "mail", "m20");
  await cache.hset(at("person", "21"), "id", "21", "state", "test", "_millrace_version", "1");
  await cache.del(at("visit", "d:3"));
  await cache.hset(at("visit", "c:3"), "code", "c:3", "_millrace_version", "1");
  await cache.hset(at("word", "", "2"), "v", "x");
  await cache.hset(at("word", "Ä", "1"), "w", "Ä", "n", "1", "_millrace_version", "1");
  await cache.del(at("word", "x".repeat(600), "2"));
}

async function plantInIndex({ sinks }: RunningPipeline): Promise<void> {
  const call = async (method: string, table: string, action: string, key: readonly string[], body?: object) => {
    const path = `/${sinks.indexPrefix}public.${table}/${action}/${encodeURIComponent(rowIdOf(key))}`;
    const { status, text } = await searchCall(elasticsearchUrl(), method, path, body && JSON.stringify(body));
    if (status > 201) throw new Error(text);
  };
  await call("POST", "person", "_update", ["20"], { doc: { mail: "m20" } });
  await call("PUT", "person", "_doc", ["21"], { id: 21, state: "test", _millrace_version: 1 });
  await call("DELETE", "visit", "_doc", ["d:3"]);
  await call("PUT", "visit", "_doc", ["c:3"], { code: "c:3", _millrace_version: 1 });
  await call("POST", "word", "_update", ["", "2"], { doc: { v: "x" } });
  await call("PUT", "word", "_doc", ["Ä", "1"], { w: "Ä", n: 1, _millrace_version: 1 });
  await call("DELETE", "word", "_doc", ["x".repeat(600), "2"]);
}

test(
  "faults in every form of sink under rules, chosen keys and keys of texts are found, and nothing else",
  { tags: "long" },
  async () => {
    await using pipeline = await RunningPipeline.start(
      async (source) => {
        await source.query(SOURCE);
        await source.query("create table word (w text collate blind, n int, v text, primary key (w, n))");
        await source.query("insert into word select w, n, w || n from unnest($1::text[]) w, generate_series(1, 2) n", [
          WORDS,
        ]);
      },
      {
        kinds: [...SINK_KINDS, ...KEPT_KINDS],
        configure: (config) => ({ ...config, tables: RULES, maskKey: MASK_KEY }),
      },
    );
    await pipeline.settled();
    await pipeline.run(CHANGES);
    await pipeline.settled();
    const { installation, sinks } = pipeline;
    const clean = await reconcile(installation);
    expect({ exitCode: clean.exitCode, drift: driftOf(clean.found), rest: clean.found.notComparable }).toEqual({
      exitCode: 0,
      drift: {},
      rest: [],
    });
    await pipeline.daemon.stop();
    for (const name of ["postgres", "postgres-soft", "postgres-history"] as const)
      await sinks.target!.query(PLANS[name].sql);
    await runInFile(join(installation.folder, "warehouse.duckdb"), PLANS.duckdb.sql);
    await runInFile(join(installation.folder, "soft.duckdb"), PLANS["duckdb-soft"].sql);
    await runInFile(join(installation.folder, "history.duckdb"), PLANS["duckdb-history"].sql);
    await plantInCache(pipeline);
    await plantInIndex(pipeline);
    const mended = await reconcile(installation, "--repair", "--sample", "100");
    const inWarehouses = Object.fromEntries(Object.entries(PLANS).map(([sink, { found }]) => [sink, found]));
    const drift = driftOf(mended.found);
    const shown = (lines: readonly string[]) => lines.map((line) => line.replace(" _version", ""));
    expect({ ...drift, elasticsearch: shown(drift["elasticsearch"] ?? []) }, mended.stderr).toEqual({
      ...inWarehouses,
      redis: IN_STORES,
      elasticsearch: IN_STORES,
    });
    expect(mended).toMatchObject({ exitCode: 3, found: { notComparable: [] } });
    const again = await reconcile(installation);
    expect({ exitCode: again.exitCode, drift: driftOf(again.found) }).toEqual({ exitCode: 0, drift: {} });
  },
);
