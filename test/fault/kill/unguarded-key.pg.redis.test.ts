/** The daemon is killed around rows that a `key` at the operator's word does not tell apart. */
import { expect, test } from "vitest";
import type { TableName } from "../../support/compare/compare.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

/** What comes while the daemon is away, and what mends it. */
const MET = {
  alike: ["insert into alike values (700, 'mail70', 1)", "delete from alike where id = 700"],
  taken: ["update taken set mail = 'mail70' where id = 71", "update taken set mail = 'mail71' where id = 71"],
  empty: ["update empty set mail = null where id = 50", "update empty set mail = 'mail50' where id = 50"],
} as const;
const NAMES = ["alike", "taken", "empty"] as const;
const BESIDE = "beside";
const ALL = [...NAMES, BESIDE];
const MOVE = `update @ set n = n + 1 where id between 20 and 30; delete from @ where id = 31; insert into @ values (32000, 'new', 1)`;

const table = (name: string): TableName => ({ schema: "public", table: name, key: ["mail"] });
const suspended = (names: readonly string[]) => Object.fromEntries(names.map((name) => [`public.${name}`, "MR1313"]));

test(
  "such a table is suspended after the restart, stays so, and is reinstated when it can be followed",
  { tags: "long" },
  async () => {
    await using pipeline = await RunningPipeline.start(
      ALL.map(
        (
          name,
        ) => `create table ${name} (id int primary key, mail text, n int); alter table ${name} replica identity full;
        create index on ${name} (mail); insert into ${name} select g, 'mail' || g, 0 from generate_series(1, 100) g`,
      ).join(";"),
      {
        kinds: ["duckdb", "postgres", "redis"],
        configure: (config) => ({
          ...config,
          tables: Object.fromEntries(ALL.map((name) => [`public.${name}`, { key: ["mail"] }])),
        }),
      },
    );
    const { installation, source, sinks } = pipeline;
    const found = async (): Promise<object> => {
      const { tables } = await installation.status();
      return Object.fromEntries(tables.suspended.map(({ table: id, error }) => [id, error.code]));
    };
    await pipeline.settled();
    for (const [i, name] of NAMES.entries()) {
      await pipeline.daemon.stop();
      await source.query(`${MET[name][0]}; ${MOVE.replaceAll("@", name)}`);
      pipeline.daemon = installation.run({ MILLRACE_FAILPOINTS: "sink.applied=kill" });
      await pipeline.killed(name);
      await pipeline.start();
      await eventually(async () => expect(await found(), name).toEqual(suspended(NAMES.slice(0, i + 1))));
    }
    // Killed where it is known, too: what is suspended is found in the state.
    await pipeline.kill();
    await pipeline.run(MOVE.replaceAll("@", BESIDE));
    await pipeline.start();
    expect(await found()).toEqual(suspended(NAMES));
    await pipeline.run(NAMES.map((name) => MET[name][1]).join(";"));
    await eventually(async () => {
      expect(await sinks.differences(source.url, installation.folder, [table(BESIDE)])).toEqual([]);
    });
    await pipeline.daemon.stop();
    pipeline.daemon = installation.run({ MILLRACE_FAILPOINTS: "snapshot.chunk-durable=kill" });
    await pipeline.daemon.streaming();
    for (const name of NAMES) await installation.command("snapshot", "start", "--tables", `public.${name}`);
    await pipeline.killed("reinstated");
    await pipeline.start();
    for (const name of NAMES) await installation.command("snapshot", "start", "--tables", `public.${name}`);
    await eventually(async () => expect(await found()).toEqual({}));
    await pipeline.expectEqual(ALL.map(table));
  },
);
