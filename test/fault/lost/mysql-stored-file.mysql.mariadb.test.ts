/** The file that the stream has come to, as it is stored beside the host. */
import { expect, test } from "vitest";
import { sourceFactory } from "../../../connectors/mysql/source/config.ts";
import { MysqlHosts, run } from "../../support/mysql/mysql-hosts.ts";
import { quietLog } from "../../support/run/quiet-log.ts";
import { mysqlFlavours, ownMysql } from "../../support/run/services.ts";

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

test.each(mysqlFlavours)("%s: has what the sink furthest on has, or it is an older copy", async (flavour) => {
  await using server = await ownMysql(flavour);
  const url = new URL(server.url);
  url.pathname = "/d";
  await run(server.url, "create database d", "create table d.t (id int primary key)");
  const source = await sourceFactory.create(
    { daemon: "d", folder: ".", tables: ["other.*"], options: { url: url.href } },
    quietLog,
  );
  try {
    const { identity, position } = await source.admin.create(
      { epoch: 1, wantCopy: false, resumeIntent: false },
      signal,
    );
    await run(server.url, "insert into d.t values (1)");
    const end = await source.log.tip(signal);
    // A server that comes back from a copy of its disk begins another file.
    await run(server.url, "flush binary logs", "insert into d.t values (2)");
    const resume = async (commit: bigint) =>
      await source.admin.resume(identity, { from: position, reached: { ...position, commit } }, signal);
    await resume(end);
    await expect(resume(end + 500n)).rejects.toMatchObject({ code: "MR2016" });
  } finally {
    await source.close();
  }
});
