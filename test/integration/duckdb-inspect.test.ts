/** A comparison that ends while DuckDB still reads for it: DuckDB never answers on a connection that was closed meanwhile. */
import { expect, test } from "vitest";
import { put, Stage } from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { landed } from "../support/warehouses/duckdb-landing.ts";
import { duckdbTarget } from "../support/warehouses/duckdb-target.ts";
import { eventually } from "../support/run/waiting.ts";

const ROWS = 20_000;
const items = tableVersion({
  table: "items",
  columns: [
    ["id", "int8"],
    ["name", "text"],
  ],
  key: ["id"],
});

test.each([0, 5, 20, 60])("its reads end, begun %d ms before", async (ms) => {
  const harness = { name: "duckdb", target: async () => duckdbTarget(), landed, transactional: true };
  await using stage = await Stage.of(harness, items);
  const ids = Array.from({ length: ROWS }, (_, id) => String(id));
  await stage.write(
    items,
    10n,
    ids.map((id) => put([id, `n${id}`], { fresh: true })),
  );
  const { signal } = new AbortController();
  const inspection = await stage.sink.comparison!.inspect(signal);
  const begunMs = performance.now();
  let hasEnded = false;
  const reading = inspection
    .rows(
      items,
      ids.map((id) => [id]),
      signal,
    )
    .then(
      ({ length }) => length === ROWS,
      () => true,
    )
    .finally(() => (hasEnded = true));
  await eventually(() => performance.now() - begunMs >= ms, { everyMs: 1 });
  await inspection[Symbol.asyncDispose]();
  expect(hasEnded).toBe(true);
  expect(await reading).toBe(true);
});
