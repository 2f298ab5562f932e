/** What `dlq replay` says where no daemon reads the rows at once. */
import { writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { openState } from "../../src/state/open.ts";
import { runCli } from "../support/daemon/cli.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const at = { epoch: 1, commit: 1n, index: 0 };

test("without a daemon it says which rows the next one reads, what holds them up, and which nobody would read", async () => {
  using folder = temporaryFolder();
  const sinks = "{ a: { kind: redis, url: 'redis://127.0.0.1:1' }, b: { kind: redis, url: 'redis://127.0.0.1:2' } }";
  const source = "{ kind: postgres, url: 'postgres://127.0.0.1:1/d' }";
  writeFileSync(folder.file("millrace.yaml"), `name: shop\nsource: ${source}\nsinks: ${sinks}\n`);
  const state = await openState(`sqlite:${folder.file(".millrace/shop.db")}`);
  await state.source.announce(1);
  const shapes = ["t", "u"].map((table) => tableVersion({ table, columns: { id: "int4" } }));
  await state.schemas.resolve(shapes, at);
  const letter = { op: "c", position: at, code: "MR3998", reason: "too long", envelope: "{}" };
  const places = ["a t", "b t", "a u", "gone t", "a dropped", "a t"];
  for (const [i, place] of places.entries()) {
    const [sink, table] = place.split(" ");
    await state.deadLetters.add({ ...letter, sink: sink!, tableId: `public.${table}`, key: [String(i)] });
  }
  await state.deadLetters.settle([6], { from: "waiting", to: "discarded" });
  await state.sinks.setPaused("b", true);
  const error = { code: "MR1304", message: "no", hint: null, at: "2026-11-20T00:00:00Z" } as const;
  await state.suspensions.suspend([{ sink: "a", tableId: "public.u", error }]);
  await state.close();
  const { exitCode, stdout } = await runCli(["dlq", "replay", "1", "2", "3", "4", "5", "6"], { folder: folder.path });
  expect([exitCode, stdout.trim().split("\n")]).toEqual([
    0,
    [
      "no daemon runs: the next one reads 3 rows again",
      "sink b is paused: it gets its rows when it is resumed",
      "table public.u is suspended in sink a: it is read when that ends",
      "settled before: 1",
      "not listed: 4, 5 (their sinks or tables are gone)",
    ],
  ]);
});
