/**
 * A sink that is slow, or stalled, where rows of MySQL and MariaDB are read: in the first copy, and again beside the stream.
 * @module-tag heavy
 */
import { describe, expect, test } from "vitest";
import type { SnapshotStatus, StatusDocument } from "../../../src/core/contracts/status.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { mysqlFlavours } from "../../support/run/services.ts";
import { eventually, patient } from "../../support/run/waiting.ts";

/** The cache would need a minute. */
const SLOW_BYTES_PER_SECOND = 500_000;
/** 34 MB: more than waits in memory for a sink. */
const BULK = [
  "create table bulk (id int primary key auto_increment, mail varchar(50), body text)",
  "insert into bulk (mail, body) values ('m', repeat('x', 1000))",
  ...Array.from(
    { length: 15 },
    () => "insert into bulk (mail, body) select concat('m', id), repeat(sha2(id, 256), 16) from bulk",
  ),
];

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("the others are filled and stream; the slow one is filled from the same copy, then read again while it is stalled", async () => {
    await using pipeline = await MysqlPipeline.start(flavour, BULK, {
      kinds: ["sqlite", "redis"],
      isProxied: true,
      untilStreaming: false,
      rules: { bulk: { columns: { mail: { mask: "hash" } } } },
      maskKey: "a-key-of-the-tests-0123456789",
    });
    const { installation, daemon, source, sinks } = pipeline;
    const proxy = sinks.proxies.get("redis")!;
    proxy.limit(SLOW_BYTES_PER_SECOND);
    const status = async () => await installation.ask<StatusDocument>("GET", "/api/v1/status");
    await eventually(async () => expect((await status())?.phase).toBe("streaming"), { withinMs: 90_000 });
    const shown = async (id: number) => {
      const sql = `select count(*) as n from "${source.name}.bulk" where id = ${id}`;
      const { stdout } = await installation.command("query", "--sink", "sqlite", "--json", sql);
      expect(JSON.parse(stdout)).toMatchObject({ rows: [{ n: 1 }] });
    };
    await pipeline.run("insert into bulk values (1000001, 'new', 'new')");
    await eventually(async () => await shown(1_000_001));
    expect(daemon.said).toContain("it reads the tables by itself");
    await proxy.resume();
    await pipeline.settled(patient(120_000));
    const reads = async (name: string) => {
      const all = await installation.ask<readonly SnapshotStatus[]>("GET", "/api/v1/snapshots");
      return all!.filter(({ sink, rowsDone }) => sink === name && rowsDone > 0);
    };
    expect([await reads("sqlite"), await reads("redis")]).toEqual([[], []]);

    proxy.stall();
    await pipeline.readAgain("bulk");
    await pipeline.run("insert into bulk values (1000002, 'new', 'new')");
    await eventually(async () => expect(await reads("sqlite")).toMatchObject([{ state: "done" }]), {
      withinMs: 60_000,
    });
    await eventually(async () => await shown(1_000_002));
    for (const { state } of await reads("redis")) expect(state).not.toBe("done");
    await proxy.resume();
    await pipeline.settled(patient(120_000));
    const { exitCode, found } = await reconcile(installation);
    expect({ exitCode, drift: driftOf(found) }).toEqual({ exitCode: 0, drift: {} });
  });
});
