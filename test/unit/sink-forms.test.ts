/** What a configuration says of a sink's form before the sink is made, and what is lost to that form. */
import { expect, test } from "vitest";
import { connectors } from "../../connectors/registry.ts";
import { planText } from "../../src/cli/offsets/offset-reset.ts";
import { unreadable } from "../../src/runtime/sink/sink-position.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const BROKERS = ["127.0.0.1:1"];
const WAREHOUSES = {
  clickhouse: { url: "http://127.0.0.1:1" },
  duckdb: { path: "w.duckdb" },
  ducklake: { catalog: "sqlite:lake.db", data: "lake" },
  postgres: { url: "postgres://127.0.0.1/w" },
  sqlite: { path: "r.sqlite" },
};

const SINKS: readonly (readonly [kind: string, options: object, form: string])[] = [
  ...Object.entries(WAREHOUSES).flatMap(([kind, options]) =>
    (["mirror", "history"] as const).map((mode) => [kind, { ...options, mode }, mode] as const),
  ),
  ["elasticsearch", { url: "http://127.0.0.1:1" }, "mirror"],
  ["redis", { url: "redis://127.0.0.1:1" }, "mirror"],
  ["files", { path: "out" }, "stream"],
  ["kafka", { brokers: BROKERS }, "stream"],
  ["kafka", { brokers: BROKERS, format: "log" }, "log"],
];

test.each(SINKS)("a %s sink with %j has the form %s, and the configuration knows it", async (kind, options, form) => {
  using folder = temporaryFolder();
  const parsed = (await connectors.sink(kind)).parse(options);
  if (parsed.kind === "invalid") throw new Error(JSON.stringify(parsed.issues));
  const bound = parsed.bind({ name: "s", daemon: "d", folder: folder.path });
  const sink = await bound.create(quietLog);
  expect([bound.form ?? "mirror", sink.form]).toEqual([form, form]);
  await sink.close();
});

test("every registered kind is among them", () => {
  expect(new Set(SINKS.map(([kind]) => kind))).toEqual(new Set(connectors.sinkKinds));
});

test("only a mirror loses nothing where its tables are read in place of changes, and a reset says so", () => {
  expect(unreadable("mirror")).toBeNull();
  for (const form of ["history", "stream", "log"] as const)
    expect(unreadable(form)).toContain("the changes in between are lost");
  const sink = { name: "out", holds: "0/1", position: "0/2", effect: "skip", bytes: 1, tables: ["public.t"] } as const;
  const plan = {
    applied: false,
    to: "latest",
    position: "0/2",
    note: null,
    reachable: { first: "0/1", end: "0/2" },
    epoch: 1,
  };
  const told = (loses: string | null) => planText({ ...plan, sinks: [{ ...sink, loses }] });
  expect(told(null)).not.toContain("lost");
  expect(told(unreadable("stream"))).toContain("the changes in between are lost to its readers");
});
