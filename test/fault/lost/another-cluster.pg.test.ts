/** A dump is restored into another cluster, whose numbers of tables are other tables': what rules hide stays hidden. */
import { expect, test } from "vitest";
import { CANARY, expectHidden, placesWith, SHOWN } from "../../support/daemon/canary.ts";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { createFreshDatabase, type FreshDatabase } from "../../support/run/fresh-database.ts";
import { ownPostgres } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const RULES = { "public.users": { columns: { mail: { mask: "redact" } } } };
const USERS = "(id int primary key, mail text, country text)";
const PLAIN = "(id int primary key, v text)";

async function numberOf(database: FreshDatabase, table: string): Promise<number> {
  const { rows } = await database.query<{ oid: number }>("select $1::regclass::oid::int8::float8 as oid", [table]);
  return rows[0]!.oid;
}

test("tables under rules that got another name on the way are held back, and no other", async () => {
  await using former = await ownPostgres();
  await using other = await ownPostgres();
  const source = await createFreshDatabase(former);
  await using restored = await createFreshDatabase(other);
  const configure = (config: PipelineConfig) => ({ ...config, tables: RULES });
  await using pipeline = await RunningPipeline.start(
    `create table plain ${PLAIN}; create table users ${USERS}; create table note ${PLAIN};
     insert into users values (1, 'a@${CANARY}', '${SHOWN}'); insert into plain values (1, '${SHOWN}')`,
    { source, kinds: ["files", "duckdb"], configure },
  );
  await pipeline.settled();
  await pipeline.daemon.stop();
  await restored.query(
    `create table people ${USERS}; create table note ${PLAIN}; create table plain ${PLAIN};
     insert into people values (1, 'a@${CANARY}', '${SHOWN}'); insert into note values (1, 'at last')`,
  );
  expect(await numberOf(restored, "people")).toBe(await numberOf(source, "plain"));
  expect(await numberOf(restored, "note")).toBe(await numberOf(source, "users"));

  const { installation, sinks } = pipeline;
  installation.configure({
    name: source.name,
    source: { kind: "postgres", url: restored.url, heartbeat: "500ms" },
    sinks: sinks.config,
    tables: RULES,
  });
  const recovered = await installation.command("recover", "--yes");
  expect(recovered.stderr).toMatch(/MR1033.*table public\.people .*; the table is suspended/);
  pipeline.daemon = installation.run();
  await pipeline.daemon.streaming();
  await restored.query(`update people set country = 'x'; insert into note values (2, 'passed')`);
  await eventually(async () => {
    const { tables } = await installation.status();
    expect(tables.suspended.map(({ table, error }) => [table, error.code])).toEqual([["public.people", "MR1033"]]);
    for (const text of ["at last", "passed"])
      expect((await placesWith(text, pipeline)).length, text).toBeGreaterThan(0);
  });
  await expectHidden(pipeline);
});
