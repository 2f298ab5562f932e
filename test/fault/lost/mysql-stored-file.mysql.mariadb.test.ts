/** The files of the log: the one that the stream has come to, as it is stored beside the host, and what a later start needs of them. */
import { rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { sourceFactory } from "../../../connectors/mysql/source/config.ts";
import { MysqlHosts, run } from "../../support/mysql/mysql-hosts.ts";
import { quietLog } from "../../support/run/quiet-log.ts";
import { type MysqlFlavour, mysqlFlavours, ownMysql } from "../../support/run/services.ts";

const nothing = () => Promise.reject(new Error("no table is captured"));
const signal = AbortSignal.timeout(100_000);

test.each(mysqlFlavours)("%s: is not stored as another host's that answers by now", async (flavour) => {
  await using hosts = await MysqlHosts.start(flavour);
  const url = new URL(hosts.url);
  url.pathname = "/d";
  await run(hosts.source.url, "create database d", "create table d.t (id int primary key)");
  await hosts.caughtUp();
  await hosts.part();
  const source = await sourceFactory.create(
    { daemon: "d", folder: ".", tables: ["other.*"], options: { url: url.href } },
    quietLog,
  );
  try {
    const { identity, position } = await source.admin.create(
      { epoch: 1, wantCopy: false, resumeIntent: false },
      signal,
    );
    await using stream = await source.log.stream(position, { temporary: false, resolve: nothing }, signal);
    await run(hosts.source.url, "flush binary logs", "insert into d.t values (1)");
    const { until } = await stream.next(signal);
    expect(source.positions.format(until.commit)).not.toContain(`.${String(identity["file"]).padStart(6, "0")}:`);
    hosts.lead();
    const held = { from: until, reached: until };
    await expect(source.admin.resume(identity, held, signal)).rejects.toMatchObject({ code: "MR2032" });
    const told: unknown[] = [];
    await source.catalog.publish(async (changed) => void told.push(changed), signal);
    const { uuid, serverId } = identity;
    expect(told).toEqual([expect.objectContaining({ uuid, serverId })]);
  } finally {
    await source.close();
  }
});

test("mariadb: hosts of one server_id are told apart; the names of transactions show where to go on", async ({
  skip,
}) => {
  skip(!mysqlFlavours.includes("mariadb"), "no MariaDB");
  await using hosts = await MysqlHosts.start("mariadb");
  const url = new URL(hosts.url);
  url.pathname = "/d";
  await run(hosts.source.url, "create database d", "create table d.t (id int primary key)");
  const source = await sourceFactory.create(
    { daemon: "d", folder: ".", tables: ["other.*"], options: { url: url.href } },
    quietLog,
  );
  try {
    const first = await source.admin.create({ epoch: 1, wantCopy: false, resumeIntent: false }, signal);
    const { until, identity } = await (async () => {
      await using stream = await source.log.stream(first.position, { temporary: false, resolve: nothing }, signal);
      await run(hosts.source.url, "insert into d.t values (1)");
      const { until } = await stream.next(signal);
      return { until, identity: source.admin.remember!([first.position.commit]) ?? first.identity };
    })();
    const held = { from: first.position, reached: until };
    await source.admin.resume(identity, held, signal);
    await hosts.caughtUp();
    await hosts.part();
    // As on nodes of one cluster, or on hosts that were made from one image. Their logs have other files and places.
    await run(hosts.replica.url, "set global server_id = 1", "flush binary logs", "flush binary logs");
    await hosts.leadSlowly();
    // The connection that it had breaks, the next one ends elsewhere.
    await source.log.tip(signal).catch(() => {});
    await expect(source.log.tip(signal)).rejects.toMatchObject({ code: "MR2032" });
    hosts.lead();
    await expect(source.admin.resume(identity, held, signal)).rejects.toMatchObject({ code: "MR2032" });
    const crossing = await source.admin.cross!(identity, [first.position.commit], signal);
    expect([...crossing!.positions.keys()]).toEqual([first.position.commit]);
    const at = { ...first.position, epoch: 2, commit: crossing!.positions.get(first.position.commit)! };
    await source.admin.resume(crossing!.identity, { from: at, reached: at }, signal);
  } finally {
    await source.close();
  }
});

/** The log of a server of the test's own, as a first start found it. */
async function begun(flavour: MysqlFlavour) {
  await using owned = new AsyncDisposableStack();
  const server = owned.use(await ownMysql(flavour));
  const url = new URL(server.url);
  url.pathname = "/d";
  await run(server.url, "create database d", "create table d.t (id int primary key)");
  const source = await sourceFactory.create(
    { daemon: "d", folder: ".", tables: ["other.*"], options: { url: url.href } },
    quietLog,
  );
  owned.defer(() => source.close());
  const { identity, position } = await source.admin.create({ epoch: 1, wantCopy: false, resumeIntent: false }, signal);
  const until = async (commit: bigint) =>
    await source.admin.resume(identity, { from: position, reached: { ...position, commit } }, signal);
  const ends = owned.move();
  return { server, source, position, until, [Symbol.asyncDispose]: () => ends.disposeAsync() };
}

test.each(mysqlFlavours)("%s: has what the sink furthest on has, or it is an older copy", async (flavour) => {
  await using log = await begun(flavour);
  await run(log.server.url, "insert into d.t values (1)");
  const end = await log.source.log.tip(signal);
  // A server that comes back from a copy of its disk begins another file.
  await run(log.server.url, "flush binary logs", "insert into d.t values (2)");
  await log.until(end);
  await expect(log.until(end + 500n)).rejects.toMatchObject({ code: "MR2016" });
});

test.each(mysqlFlavours)("%s: and those behind it can be read, or the log is lost", async (flavour) => {
  await using log = await begun(flavour);
  const { server, source, position } = log;
  const [base = ""] = await run(server.url, "select @@log_bin_basename", "flush binary logs");
  const [file] = source.positions.format(await source.log.tip(signal)).split(":");
  await run(server.url, "insert into d.t values (1)", "flush binary logs");
  await log.until(position.commit);
  // The server's list still has it.
  rmSync(join(dirname(base), file!));
  await expect(log.until(position.commit)).rejects.toMatchObject({ code: "MR2010" });
});
