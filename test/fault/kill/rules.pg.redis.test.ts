/** The daemon is killed while a table gets another `key`, changes under it, or changes and is not followed; rows move. */
import { expect, test } from "vitest";
import type { TableName } from "../../support/compare/compare.ts";
import { moving } from "../../support/load/moving-rows.ts";
import { Random, testSeed } from "../../support/run/random.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";

const TABLES = ["chosen", "ignored"] as const;
const IGNORED = { "public.ignored": { schemaChange: "ignore" } };
const RULES = { ...IGNORED, "public.chosen": { key: ["b"] } };

const MOVE =
  "update @ set n = n + 1 where id between 40 and 60; update @ set id = id + 5000 where id = 61; delete from @ where id = 62";

/** As the sinks keep it: its rows were written anew without the column that they have. */
const AS_KEPT = "create view as_kept as select id, z as a, null::int as b, body, n from ignored";

interface Round {
  /** What is changed, once the daemon streams. */
  readonly sql?: string;
  /** What the configuration says from here on. */
  readonly tables?: object;
  readonly kills: readonly string[];
}

const ROUNDS: readonly Round[] = [
  { tables: RULES, kills: ["sink.voided:public.chosen/2", "snapshot.swept:public.chosen/2"] },
  {
    sql: `begin; update chosen set b = b + 1000000 where id between 20 and 30; alter table chosen add column extra text default 'e';
      ${MOVE.replaceAll("@", "chosen")}; update chosen set b = b + 1000000 where id between 25 and 35; commit`,
    kills: ["sink.voided:public.chosen/3", "snapshot.chunk-durable:public.chosen/3"],
  },
  {
    sql: `begin; alter table ignored rename column a to z; ${MOVE.replaceAll("@", "ignored")}; alter table ignored drop column b;
      alter table ignored add column extra float8 default random(); update ignored set z = z || '!' where id < 20; commit`,
    kills: ["snapshot.chunk-read:public.ignored/1", "snapshot.swept:public.ignored/1"],
  },
];

test("killed in the middle of what rules make of a change", { tags: "long" }, async () => {
  // In the simulation; rules and a kill together are in e2e/rules.
  await using pipeline = await RunningPipeline.start(
    TABLES.map(
      (
        name,
      ) => `create sequence ${name}_numbers; create table ${name} (id int primary key, a text, b int not null default nextval('${name}_numbers') unique, body text, n int default 0);
        alter table ${name} replica identity full; alter table ${name} alter body set storage external;
        insert into ${name} (id, a, body) select g, '${name}' || g, repeat(md5(g::text), 80) from generate_series(1, 100) g`,
    ).join(";"),
    { kinds: ["duckdb", "postgres", "redis"], configure: (config) => ({ ...config, tables: IGNORED }) },
  );
  const { installation, source, sinks } = pipeline;
  await pipeline.settled();
  await pipeline.daemon.stop();
  {
    await using _ = moving(source, TABLES, new Random(testSeed()));
    for (const { sql, tables, kills } of ROUNDS) {
      if (tables !== undefined) {
        const own = { kind: "postgres", url: source.url, heartbeat: "500ms" };
        installation.configure({ name: installation.name, source: own, sinks: sinks.config, tables });
      }
      for (const [i, point] of kills.entries()) {
        pipeline.daemon = installation.run({ MILLRACE_FAILPOINTS: `${point}=kill` });
        if (i === 0 && sql !== undefined) {
          await pipeline.daemon.streaming();
          await pipeline.settled();
          await source.query(sql);
        }
        await pipeline.killed(point);
      }
    }
    await pipeline.start();
  }
  await source.query(AS_KEPT);
  const chosen: TableName = { schema: "public", table: "chosen", key: ["b"] };
  await pipeline.expectEqual([chosen, { schema: "public", table: "ignored", key: ["id"], shownBy: "as_kept" }]);
  const { stdout } = await installation.command("schema", "list", "--json");
  expect(JSON.parse(stdout)).toMatchObject({
    tables: [{ table: "public.chosen" }, { table: "public.ignored", version: 1 }],
  });
});
