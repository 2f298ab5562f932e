/**
 * Alerts over servers that are away, refuse a login or run out of room, and over a state that is locked.
 *
 * @module-tag long
 */
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { Redis } from "ioredis";
import { expect, test } from "vitest";
import { AlertWatch, scrapedDaemon } from "../../support/daemon/alert-watch.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { freshDatabase, ownPostgres, redisUrl } from "../../support/run/services.ts";

const PREPARE =
  "create table item (id int primary key, n int); insert into item select g, g from generate_series(1, 50) g";
/** A little more than MillraceRetentionBytes wants to be left. */
const KEPT_WAL_MAX = "1100MB";
const DAY_MS = 24 * 3_600_000;

/** With the user's name in it. */
function as(url: string, name: string): string {
  const changed = new URL(url);
  changed.username = name;
  return changed.href;
}

/** The state's file, while the daemon runs or not. */
function stateFile({ installation: { folder, name } }: RunningPipeline): DatabaseSync & Disposable {
  const file = new DatabaseSync(join(folder, ".millrace", `${name}.db`));
  return Object.assign(file, { [Symbol.dispose]: () => file.close() });
}

/** As if the comparisons that have proven something were so much older. */
function ageProofs(file: DatabaseSync, ms: number): void {
  file.prepare("update proof set proven_at = ?").run(new Date(Date.now() - ms).toISOString());
}

test("fire for a login that is refused, for log that runs out, for an old proof and for a locked state", async () => {
  await using server = await ownPostgres({ settings: { max_slot_wal_keep_size: KEPT_WAL_MAX } });
  await using source = await freshDatabase(server);
  const user = `cache_${randomUUID().slice(0, 8)}`;
  const redis = new Redis(redisUrl());
  const login = async (password: string): Promise<void> => {
    await redis.call("ACL", "SETUSER", user, "on", "allkeys", "allcommands", "resetpass", password);
    await redis.call("CLIENT", "KILL", "USER", user);
  };
  await redis.call("ACL", "SETUSER", user, "on", "allkeys", "allcommands", "nopass");
  await source.query("create role reader superuser login");
  const daemon = await scrapedDaemon();
  try {
    await using pipeline = await RunningPipeline.start(PREPARE, {
      source,
      kinds: ["postgres", "redis"],
      configure: ({ sinks, ...config }) => ({
        ...config,
        source: { kind: "postgres", url: as(source.url, "reader"), heartbeat: "500ms" },
        sinks: { ...sinks, redis: { ...sinks["redis"], url: as(redisUrl(), user) } },
        admin: daemon.admin,
      }),
    });
    await pipeline.settled();
    await using alerts = await AlertWatch.start(daemon);
    await alerts.quiet();

    await login(">changed");
    await pipeline.run("insert into item values (51, 51)");
    await alerts.fires(["MillraceSinkNeedsPerson"]);
    // Log that only the sink still needs; the forecast wants half a minute of its growth.
    const write = () =>
      source.query("select pg_switch_wal() from (select pg_logical_emit_message(false, 'filling', 'x')) as written");
    await alerts.fires(["MillraceRetentionBytes", "MillraceRetentionTime"], 90_000, write);
    await login("nopass");
    await alerts.quiet();

    await source.query("alter role reader nologin");
    await source.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'reader'");
    await alerts.fires(["MillraceSourceDown", "MillraceSourceNeedsPerson"]);
    await source.query("alter role reader login");
    await alerts.quiet();

    expect((await pipeline.installation.command("reconcile")).exitCode).toBe(0);
    await pipeline.daemon.stop();
    using file = stateFile(pipeline);
    ageProofs(file, 3 * DAY_MS);
    await pipeline.start();
    await alerts.fires(["MillraceProofOld"]);
    expect((await pipeline.installation.command("reconcile")).exitCode).toBe(0);
    await alerts.quiet();

    file.exec("BEGIN IMMEDIATE");
    await alerts.fires(["MillraceStateDown"], 60_000, () => pipeline.run("update item set n = n + 1 where id = 1"));
    file.exec("ROLLBACK");
    await alerts.quiet();
    await pipeline.expectEqual(["item"]);
  } finally {
    await redis.call("ACL", "DELUSER", user);
    redis.disconnect();
  }
});

test("fire for a source that is away, and after minutes for sinks and tables that are old; quiet when it is back", async () => {
  await using server = await ownPostgres();
  await using source = await freshDatabase(server);
  const daemon = await scrapedDaemon();
  await using pipeline = await RunningPipeline.start(PREPARE, {
    source,
    kinds: ["postgres"],
    configure: (config) => ({ ...config, admin: daemon.admin }),
  });
  await pipeline.settled();
  await using alerts = await AlertWatch.start(daemon);
  await alerts.quiet();
  await server.pause();
  await alerts.fires(["MillraceSourceDown"]);
  await alerts.fires(["MillraceSinkLag"], 120_000);
  expect(await alerts.firing()).not.toContain("MillraceTableStale");
  await alerts.fires(["MillraceTableStale"], 400_000);
  await server.resume();
  await alerts.quiet(90_000);
  await pipeline.run("insert into item values (51, 51)");
  await pipeline.expectEqual(["item"]);
});
