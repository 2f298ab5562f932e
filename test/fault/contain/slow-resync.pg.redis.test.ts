/** Tables that are read again for two sinks: one that is stalled delays the other neither there nor in the stream. */
import { expect, test } from "vitest";
import type { SnapshotStatus } from "../../../src/core/contracts/status.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { eventually } from "../../support/run/waiting.ts";

const ROWS = 12_000;

test("with rules, while the other sink is stalled: read again at once, and the other one when it is back", async () => {
  await using pipeline = await RunningPipeline.start(
    `create table bulk (id int primary key, mail text, body text);
     insert into bulk select g, 'm' || g, repeat(md5(g::text), 30) from generate_series(1, ${ROWS}) g`,
    {
      kinds: ["sqlite", "redis"],
      isProxied: true,
      configure: (config) => ({
        ...config,
        maskKey: "a-key-of-the-tests-0123456789",
        tables: { "public.bulk": { columns: { mail: { mask: "hash" } }, where: "id > 1000" } },
      }),
    },
  );
  await pipeline.settled();
  const since = await pipeline.lastRead();
  const ofSink = async (name: string) => {
    const all = await pipeline.installation.ask<readonly SnapshotStatus[]>("GET", "/api/v1/snapshots");
    return all!.filter(({ id, sink }) => id > since && sink === name);
  };
  const proxy = pipeline.sinks.proxies.get("redis")!;
  proxy.stall();
  await pipeline.readAgain("public.bulk");
  await pipeline.run(`insert into bulk values (${ROWS + 1}, 'new', 'new')`);
  await eventually(async () => expect(await ofSink("sqlite")).toMatchObject([{ state: "done" }]));
  const sql = `select count(*) as n from "public.bulk" where id = ${ROWS + 1}`;
  const { stdout } = await pipeline.installation.command("query", "--sink", "sqlite", "--json", sql);
  expect(JSON.parse(stdout)).toMatchObject({ rows: [{ n: 1 }] });
  for (const { state } of await ofSink("redis")) expect(state).not.toBe("done");
  await proxy.resume();
  await pipeline.settled();
  expect(await ofSink("redis")).toMatchObject([{ state: "done" }]);
  const { exitCode, found } = await reconcile(pipeline.installation);
  expect({ exitCode, drift: driftOf(found) }).toEqual({ exitCode: 0, drift: {} });
});
