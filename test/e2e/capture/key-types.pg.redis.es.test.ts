/**
 * Values of every type that can be a key, as keys: copied, changed, completed from the source, deleted.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { EDGE_TYPES, edgeValues } from "../../support/postgres/postgres-edge-values.ts";
import { FURTHER_TYPES, furtherValues } from "../../support/postgres/postgres-further-values.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import type { FreshDatabase } from "../../support/run/services.ts";
import { CHOSEN_KINDS } from "../../support/daemon/sink-set.ts";

/** A hundred indices take the search engine a minute; its ids are the cache's. */
/** The short form has the types that come, compare or land in a way of their own. */
const SHORT_FORM =
  /^(bool|int8|float8|numeric|text|bpchar|bytea|date|time|timestamptz|uuid|jsonb|mood|interval|money|inet|timetz|varbit|"char"|hstore|citext|ltree|positive|text\[\]|numrange|tsvector|pg_lsn|oid)$/;
/** What an index takes. */
const KEY_BYTES_MAX = 2_000;
/** Keys that DuckDB's type can't hold become dead letters (its README): late timestamps, NaN in numeric(p,s). */
const isBeyondDuckdb = (native: string, text: string): boolean =>
  text.startsWith("294276-") || (native.startsWith("numeric(") && text === "NaN");

/** One table per type; types without an order can be no key. */
async function makeTables(source: FreshDatabase): Promise<string[]> {
  await source.query(`${EDGE_TYPES}; ${FURTHER_TYPES}`);
  const tables: string[] = [];
  const natives = Map.groupBy([...edgeValues, ...furtherValues], ([native]) => native);
  for (const [native, entries] of natives) {
    if (!isLongForm() && !SHORT_FORM.test(native)) continue;
    const name = `k_${tables.length}`;
    const texts = entries.flatMap(([, values]) => values);
    const keys = texts.filter((text) => text.length < KEY_BYTES_MAX && !isBeyondDuckdb(native, text));
    await source.query("begin");
    try {
      await source.query(`create table ${name} (k ${native} primary key, n int not null default 0, body text);
        alter table ${name} alter body set storage external`);
      await source.query(
        `insert into ${name} (k, body) select text::${native}, repeat(md5(text), 80) from unnest($1::text[]) as v (text) on conflict do nothing`,
        [keys],
      );
      // One row alone would need no order.
      await source.query(`select from ${name} where k = k`);
      await source.query("commit");
    } catch (error) {
      await source.query("rollback");
      // No operators to order it by, or its elements.
      expect(error).toMatchObject({ code: expect.stringMatching(/^(42704|42883)$/) });
      continue;
    }
    tables.push(name);
  }
  return tables;
}

test("keys of every type", async () => {
  let tables: string[] = [];
  await using pipeline = await RunningPipeline.start(
    async (source) => {
      tables = await makeTables(source);
    },
    { kinds: CHOSEN_KINDS },
  );
  expect(tables.length).toBeGreaterThan(isLongForm() ? 60 : 25);
  await pipeline.expectEqual(tables);
  const everywhere = (statement: (table: string) => string) => pipeline.run(tables.map(statement).join("; "));
  await everywhere((table) => `update ${table} set n = 1`);
  await pipeline.settled();

  // The cache loses every row: each is read by its key.
  using cache = pipeline.cache();
  for await (const found of cache.scanStream({ match: `${pipeline.sinks.keyPrefix}public:k_*`, count: 1_000 })) {
    const keys: unknown[] = Array.isArray(found) ? found : [];
    if (keys.length > 0) await cache.unlink(...keys.map(String));
  }
  await everywhere((table) => `update ${table} set n = 2`);
  await pipeline.expectEqual(tables);

  await pipeline.readAgain(...tables.map((table) => `public.${table}`));
  await everywhere((table) => `delete from ${table} where k = (select k from ${table} order by k limit 1)`);
  await everywhere((table) => `update ${table} set n = 3 where k = (select k from ${table} order by k desc limit 1)`);
  await pipeline.expectEqual(tables);
  expect((await pipeline.installation.status()).sinks.map(({ deadLetters }) => deadLetters)).toEqual(
    CHOSEN_KINDS.map(() => 0),
  );
});
