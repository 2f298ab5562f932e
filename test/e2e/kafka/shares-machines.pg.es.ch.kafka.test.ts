/**
 * Processes on several machines share the tables of a log, with their states on a server; and sinks that make what they keep
 * for themselves at the same time.
 *
 * @module-tag long
 */
import { expect, test } from "vitest";
import type { StatusDocument } from "../../../src/core/contracts/status.ts";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { freshDatabase } from "../../support/run/services.ts";
import { childrenOf, SharedTables } from "../../support/kafka/shared-tables.ts";
import { eventually } from "../../support/run/waiting.ts";

const NAMES = ["orders", "notes", "items", "people", "visits", "prices"];
const MADE = NAMES.map(
  (name) => `create table ${name} (id int primary key, n int, body text);
    insert into ${name} select g, 0, repeat(md5(g::text), 5) from generate_series(1, 100) g`,
).join(";\n");

test("a machine that is gone leaves its shares to another one, and nobody takes them while it is there", async () => {
  await using states = await freshDatabase();
  await using shared = await SharedTables.start(MADE, {
    kinds: ["elasticsearch", "clickhouse"],
    shares: 2,
    state: states.url,
  });
  await shared.spread(2);
  await shared.expectEqual(NAMES);

  // Another folder is another machine to the commands: each reaches the daemons beside its own file.
  const { installation } = shared.through.applying;
  await using other = new Installation({ name: installation.name });
  other.text = installation.text;
  const away = other.run();
  const statuses = async (where: Installation): Promise<readonly StatusDocument[]> =>
    JSON.parse((await where.command("status", "--json")).stdout).shares;
  const hereAndThere = async (where: Installation): Promise<readonly number[]> => {
    const found = await statuses(where);
    expect(found.every(({ daemon, heldBy }) => daemon !== null || heldBy !== undefined)).toBe(true);
    return [found.filter(({ daemon }) => daemon !== null).length, found.length];
  };
  await eventually(async () => expect(await hereAndThere(other)).toEqual([1, 2]), {
    withinMs: 120_000,
    everyMs: 1_000,
  });
  expect(await hereAndThere(installation)).toEqual([1, 2]);
  expect(await shared.command(0, "status", "--exit-code")).toContain("on another machine: ");
  const waited = await installation.command("wait", "--timeout", "2s");
  expect(waited).toMatchObject({ exitCode: 5, stdout: expect.stringContaining("the lease is held by") });
  await shared.source.query(NAMES.map((name) => `update ${name} set n = 1 where id < 50`).join(";"));

  for (const pid of [away.pid, ...childrenOf(away.pid)]) process.kill(pid, "SIGKILL");
  await shared.spread(2);
  await shared.source.query(NAMES.map((name) => `delete from ${name} where id between 40 and 60`).join(";"));
  await shared.expectEqual(NAMES);
});
