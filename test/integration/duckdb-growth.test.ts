/** Rows that are gone give their room back: the file stays within a small multiple of a fresh copy, whatever is written. */
import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import { DuckDBConnection } from "@duckdb/node-api";
import { expect, test, vi } from "vitest";
import { SPAN_MAX } from "../../connectors/duckdb/file/upkeep.ts";
import { put, remove, Stage } from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { landed } from "../support/warehouses/duckdb-landing.ts";
import { type DuckdbTarget, duckdbTarget } from "../support/warehouses/duckdb-target.ts";
import { eventually } from "../support/run/waiting.ts";
import { DEFAULT_FORM } from "../../connectors/warehouse/own-columns.ts";

const DEAD_MIN = 1_000;
const upkeep = { deadMin: DEAD_MIN, spanMax: SPAN_MAX };
const target = async (): Promise<DuckdbTarget> => duckdbTarget(DEFAULT_FORM, { upkeep });
const harness = { name: "duckdb", target, landed, transactional: true };
const ROWS = 20_000;
const ROUNDS = 12;
const items = tableVersion({ table: "items", columns: { id: "int8", name: "text", tags: "text[]" } });
const row = (id: number, round: number) => [`${id}`, noise(id, round), `{a${round},b}`] as const;
/** What does not get smaller by being stored. */
const noise = (id: number, round: number) => createHash("sha512").update(`${id} ${round}`).digest("base64");
const ids = Array.from({ length: ROWS }, (_, id) => id);

async function sizeAfter(rounds: number): Promise<number> {
  await using stage = await Stage.of(harness, items);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the harness above makes nothing else
  const target = stage.target as DuckdbTarget;
  await stage.write(
    items,
    10n,
    ids.map((id) => put(row(id, 0), { fresh: true })),
  );
  for (let round = 1; round <= rounds; round++) {
    const at = BigInt(10 + 20 * round);
    if (round % 2 === 0)
      await stage.write(
        items,
        at,
        ids.map((id) => remove([`${id}`, null, null])),
      );
    await stage.write(
      items,
      at + 5n,
      ids.map((id) => put(row(id, round))),
    );
    // After every other round more rows are dead than live.
    if (round % 2 === 0) await eventually(() => expect(stage.sink.engine?.deadRows).toBeLessThan(DEAD_MIN));
  }
  const last = row(7, rounds);
  expect(await target.query("select count(*)::integer, count(distinct id)::integer from public.items")).toEqual([
    [ROWS, ROWS],
  ]);
  expect(await target.query("select name from public.items where id = 7")).toEqual([[last[1]]]);
  const [comment] = await target.query(
    "select comment like 'millrace %' from duckdb_tables() where table_name = 'items'",
  );
  expect(comment).toEqual([true]);
  // Its key is one still, for this process and the next.
  await stage.write(items, 9_000n, [put(["7", "again", "{}"])]);
  await stage.restart(items);
  await stage.write(items, 9_001n, [put(["7", "again", "{x}"])]);
  expect(await target.query("select count(*)::integer from public.items where id = 7")).toEqual([[1]]);
  await stage.sink.close();
  return statSync(target.path).size;
}

test(
  "rows that are deleted, made again and updated with lists in them leave a file of twice a fresh one at most",
  { tags: "long" },
  async () => {
    const fresh = await sizeAfter(0);
    const worn = await sizeAfter(ROUNDS);
    expect(worn).toBeLessThan(2 * fresh);
  },
);

test("many small tables are looked at together for dead rows, and none is counted by itself", async () => {
  const many = Array.from({ length: 80 }, (_, i) => tableVersion({ table: `t${i}`, columns: { id: "int8" } }));
  await using stage = await Stage.of(harness, ...many);
  const asked = vi.spyOn(DuckDBConnection.prototype, "runAndReadAll");
  const asking = (sql: string): number => asked.mock.calls.filter(([text]) => text.includes(sql)).length;
  for (const [i, table] of many.entries()) await stage.write(table, BigInt(10 + i), [put(["1"]), put(["2"])]);
  await eventually(() => expect(asking("estimated_size")).toBeGreaterThan(0));
  const counted = asking("(SELECT count(*) FROM");
  asked.mockRestore();
  expect(counted).toBeLessThan(8);
});
