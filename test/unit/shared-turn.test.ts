/** Turns of processes that write one lake. */
import { writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { SharedTurn } from "../../connectors/duckdb/lake/shared-turn.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

test("who waits for a turn has it before the one who has just ended his", async () => {
  using folder = temporaryFolder();
  const catalog = folder.file("lake.db");
  writeFileSync(catalog, "");
  using busy = new SharedTurn(catalog);
  using waiting = new SharedTurn(catalog);
  const { signal } = new AbortController();
  const order: string[] = [];
  const first = await busy.take(signal);
  const other = waiting.take(signal).then((turn) => {
    order.push("other");
    turn[Symbol.dispose]();
  });
  first[Symbol.dispose]();
  using _ = await busy.take(signal);
  order.push("again");
  await other;
  expect(order).toEqual(["other", "again"]);
});

test("who is stopped while it waits keeps nobody", async () => {
  using folder = temporaryFolder();
  const catalog = folder.file("lake.db");
  writeFileSync(catalog, "");
  using busy = new SharedTurn(catalog);
  using waiting = new SharedTurn(catalog);
  const stop = new AbortController();
  const { signal } = new AbortController();
  const first = await busy.take(signal);
  const other = waiting.take(stop.signal);
  stop.abort();
  await expect(other).rejects.toThrow();
  first[Symbol.dispose]();
  using _ = await busy.take(signal);
});
