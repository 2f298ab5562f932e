/** Tables that would meet in a target are in one share. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { connectors } from "../../connectors/registry.ts";
import type { Sink } from "../../src/core/contracts/sink.ts";
import type { Division } from "../../src/core/sharing/share.ts";
import { shareOf } from "../../src/core/sharing/share.ts";
import { Routes } from "../../src/routes/routes.ts";
import { quietLog } from "../support/run/quiet-log.ts";

const SINKS = {
  elasticsearch: { url: "http://127.0.0.1:1", prefix: "shop-" },
  redis: { url: "redis://127.0.0.1:1" },
  postgres: { url: "postgres://127.0.0.1/w" },
  clickhouse: { url: "http://127.0.0.1:1" },
  "postgres in one schema": { url: "postgres://127.0.0.1/w", schema: "all" },
  "clickhouse in one schema": { url: "http://127.0.0.1:1", schema: "all" },
} as const;

async function sinkOf(name: string, given: object): Promise<{ sink: Sink; by: Division["by"] }> {
  const kind = name.split(" ")[0]!;
  const parsed = (await connectors.sink(kind)).parse(given);
  if (parsed.kind === "invalid") throw new Error(JSON.stringify(parsed.issues));
  const bound = parsed.bind({ name: "s", daemon: "d", folder: "/" });
  return { sink: await bound.create(quietLog), by: bound.divides! };
}

const name = fc.string({
  unit: fc.constantFrom("a", "A", ".", "Σ", "σ", "ς", "%", "İ", "i", "_"),
  minLength: 1,
  maxLength: 4,
});
const table = fc.record({ schema: name, table: name });

test.each(Object.entries(SINKS))("%s, alone and beside a sink with one schema for all", async (kind, given) => {
  const { sink, by } = await sinkOf(kind, given);
  const routes = new Routes([
    { pattern: "*.*", into: { schema: "all", table: "$2" }, add: null },
    { pattern: "a*.*", into: { schema: "a", table: "i" }, add: null },
  ]);
  for (const [chosen, routed] of [
    [by, undefined],
    ["name", undefined],
    [by, routes],
    ["name", routes],
  ] as const) {
    const division: Division = { count: 64, by: chosen, ...(routed === undefined ? {} : { routes: routed }) };
    fc.assert(
      fc.property(fc.array(table, { minLength: 20, maxLength: 60 }), (tables) => {
        const shares = new Map<string, number>();
        for (const each of tables) {
          const target = sink.target(routed?.named(each) ?? each);
          const share = shareOf(each, division);
          expect({ target, share: shares.get(target) ?? share }).toEqual({ target, share });
          shares.set(target, share);
        }
      }),
      { numRuns: 200 },
    );
  }
  await sink.close();
});
