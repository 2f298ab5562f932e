/**
 * A history that was passed by takes nothing from what it has of a table: until the table was read again, a change that leaves a
 * value out says so, and the row that is read has the value.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { clickhouseUrl } from "../../support/run/services.ts";
import { askClickhouse } from "../../support/warehouses/clickhouse-values.ts";

const KINDS = ["postgres-history", "duckdb-history", "ducklake-history", "clickhouse-history"] as const;
const COLUMNS = "_millrace_op as op, n, left(big, 1) as big";
const ORDER = "order by _millrace_version, _millrace_offset";

async function changesIn({ installation, sinks }: RunningPipeline, sink: string, id: number): Promise<string[]> {
  const of = (source: string): string => `select ${COLUMNS} from ${source} where id = ${id} ${ORDER}`;
  const shown = (op: unknown, n: unknown, big: unknown): string => [op, n, big ?? "?"].join(" ");
  if (sink === "postgres-history") {
    const { rows } = await sinks.target!.query<{ op: string; n: number; big: string | null }>(of("history.long"));
    return rows.map(({ op, n, big }) => shown(op, n, big));
  }
  if (sink === "clickhouse-history") {
    const rows = await askClickhouse(clickhouseUrl(), of(`"${sinks.databases[0]}"."long" final`));
    return rows.map(([op, n, big]) => shown(op, n, big));
  }
  const { stdout } = await installation.command("query", of("public.long"), "--sink", sink, "--json");
  const { rows }: { rows: readonly { op: string; n: number; big: string | null }[] } = JSON.parse(stdout);
  return rows.map(({ op, n, big }) => shown(op, n, big));
}

test("a change before the read", async () => {
  await using pipeline = await RunningPipeline.start(
    `create table long (id int primary key, n int, big text);
     alter table long alter big set storage external;
     create table other (id int primary key);
     insert into long select g, 0, repeat('a', 3000) from generate_series(1, 3) g`,
    { kinds: ["postgres", ...KINDS] },
  );
  const { installation, source } = pipeline;
  await pipeline.settled();
  await pipeline.run("update long set n = 1 where id < 3");
  await pipeline.settled();
  const config = { name: source.name, source: { kind: "postgres", url: source.url, heartbeat: "500ms" } };
  const sinks = pipeline.sinks.config;
  const narrowed = Object.entries(sinks).map(([name, options]) => [name, { ...options, tables: ["public.other"] }]);
  await pipeline.daemon.stop();
  installation.configure({ ...config, sinks: Object.fromEntries(narrowed) });
  await pipeline.start();
  await pipeline.run("update long set big = repeat('b', 3000) where id < 3");
  await pipeline.settled();
  await pipeline.daemon.stop();
  // In the log before anything is read.
  await pipeline.run("update long set n = 2 where id = 1");
  installation.configure({ ...config, sinks });
  await pipeline.start();
  await pipeline.settled();
  await pipeline.run("update long set n = 3 where id < 3");
  await pipeline.settled();
  for (const kind of KINDS) {
    expect
      .soft([kind, await changesIn(pipeline, kind, 1)])
      .toEqual([kind, ["r 0 a", "u 1 a", "u 2 ?", "r 2 b", "u 3 b"]]);
    expect.soft([kind, await changesIn(pipeline, kind, 2)]).toEqual([kind, ["r 0 a", "u 1 a", "r 1 b", "u 3 b"]]);
    expect.soft([kind, await changesIn(pipeline, kind, 3)]).toEqual([kind, ["r 0 a"]]);
  }
});
