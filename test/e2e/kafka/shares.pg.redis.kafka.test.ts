/**
 * Processes with one configuration share the tables of a log: what operators see of it, and do to it.
 * @module-tag heavy
 */
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { childrenOf, isRunning, SharedTables } from "../../support/kafka/shared-tables.ts";
import { eventually } from "../../support/run/waiting.ts";

const NAMES = ["orders", "notes", "items", "people", "visits", "prices"];
const MADE = NAMES.map(
  (name) => `create table ${name} (id int primary key, n int, body text);
    insert into ${name} select g, 0, repeat(md5(g::text), 5) from generate_series(1, 100) g`,
).join(";\n");

let shared: SharedTables;

beforeAll(async () => {
  shared = await SharedTables.start(MADE, { kinds: ["postgres", "redis"], shares: 2 });
});

afterAll(async () => {
  await shared?.[Symbol.asyncDispose]();
});

test("one process has all shares, a second one gets its part, and when that one is killed its daemons end, and the first one has all", async () => {
  await shared.spread(2);
  await shared.expectEqual(NAMES);
  const second = shared.add();
  await shared.spread(1, 1);
  await shared.source.query(NAMES.map((name) => `update ${name} set n = 1 where id < 50`).join(";"));
  await shared.expectEqual(NAMES);
  const orphans = childrenOf(second.pid);
  await second.kill();
  await eventually(() => orphans.every((pid) => !isRunning(pid)));
  await shared.spread(2);
  await shared.source.query(NAMES.map((name) => `delete from ${name} where id between 40 and 60`).join(";"));
  await shared.expectEqual(NAMES);
});

test("a process that is stopped in order, with its daemons, as a service is: the first one has all at once", async () => {
  const [first] = shared.processes;
  const second = shared.add();
  await shared.spread(1, 1);
  await eventually(async () => expect(await shared.memberCount()).toBe(2));
  const before = first!.said.length;
  const [daemon] = childrenOf(second.pid);
  // A service manager tells all processes; then this one tells its daemon a second time.
  process.kill(daemon!, "SIGTERM");
  await delay(3);
  // Or it has ended by now.
  if (isRunning(daemon!)) process.kill(daemon!, "SIGTERM");
  const { exitCode, stderr } = await second.stop();
  // It has left the group by then. Else the others would wait until its session is over.
  expect(await shared.memberCount()).toBeLessThan(2);
  expect(exitCode).toBe(0);
  expect(stderr).not.toContain('"signal":"SIGTERM"');
  await shared.spread(2);
  // What it would wait for.
  expect(first!.said.slice(before)).not.toMatch(/another process has the lease|was not stopped|can't be reached/);
  await shared.expectEqual(NAMES);
});

async function json(exitCode: number, ...args: readonly string[]): Promise<readonly object[]> {
  const { shares } = JSON.parse(await shared.command(exitCode, ...args, "--json"));
  return shares;
}

test("commands speak of all shares, and of one where it is chosen", async () => {
  expect(await shared.command(0, "status", "--exit-code")).toMatch(
    /: 2 shares; all is well\n\nshare 1 of 2:\n[^]*share 2 of 2:/,
  );
  expect(await json(0, "status")).toMatchObject([
    { share: 1, phase: "streaming" },
    { share: 2, phase: "streaming" },
  ]);
  expect(JSON.parse(await shared.command(0, "status", "--share", "2", "--json"))).toMatchObject({ phase: "streaming" });
  expect(await json(0, "wait")).toMatchObject([{ reached: true }, { reached: true }]);
  const reconciled = await json(0, "reconcile");
  expect(reconciled).toMatchObject([{ drift: false }, { drift: false }]);
  const compared = [...JSON.stringify(reconciled).matchAll(/"table":"(.*?)","sink":"(.*?)"/g)];
  expect(compared.map(([, table, sink]) => `${table} ${sink}`).toSorted()).toEqual(
    NAMES.flatMap((name) => [`public.${name} postgres`, `public.${name} redis`]).toSorted(),
  );
  expect(await json(0, "snapshot", "start", "--tables", "public.orders")).toEqual([
    { share: expect.any(Number), tables: ["public.orders"] },
  ]);
  await shared.command(0, "pause", "--sink", "redis");
  await shared.source.query(NAMES.map((name) => `update ${name} set n = 7 where id < 9`).join(";"));
  await shared.command(0, "resume", "--sink", "redis");
  await shared.expectEqual(NAMES);
  const target = shared.through.applying.sinks.target!;
  await target.query(
    "delete from orders where id = 3; delete from notes where id = 4; delete from people where id = 5",
  );
  expect(await shared.command(3, "reconcile", "--repair")).toContain("everything is repaired");
  await shared.expectEqual(NAMES);
  expect(await json(0, "offsets", "show")).toHaveLength(2);
  expect(await json(0, "dlq", "list")).toEqual([
    { share: 1, letters: [], groups: [] },
    { share: 2, letters: [], groups: [] },
  ]);
  expect(await json(0, "check")).toMatchObject([{ ok: true }, { ok: true }]);
});

test("a rule for many tables may name a column that only tables of another share have", async () => {
  const { installation } = shared.through.applying;
  const former = installation.text;
  const ruled = (column: string): string =>
    `${former}tables: { "public.*": { columns: { ${column}: { mask: redact } } } }\n`;
  await shared.source.query("alter table people add column email text");
  const check = async (column: string): Promise<readonly object[]> => {
    installation.text = ruled(column);
    return JSON.parse((await installation.command("check", "--json")).stdout).shares;
  };
  await eventually(async () => expect(await check("email")).toMatchObject([{ ok: true }, { ok: true }]));
  expect(await check("emial")).toMatchObject([{ ok: false }, { ok: false }]);
  installation.text = former;
});

test("another number of shares is refused, and none too", async () => {
  const { applying } = shared.through;
  const config = applying.installation;
  const former = config.text;
  config.text = former.replace("shares: 2", "shares: 3");
  const refused = await config.run().ended;
  expect(refused).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("MR1330") });
  const alone = await config.run({}, "--share", "3").ended;
  expect(alone).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("MR1330") });
  config.text = former.replace(/ *shares: 2\n/, "");
  const single = await config.run().ended;
  expect(single).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("MR1330") });
  config.text = former;
});

test("after teardown the shares may be others: the tables are read again", { tags: "long" }, async () => {
  const { installation } = shared.through.applying;
  for (const one of shared.processes) await one.stop();
  await shared.command(0, "teardown", "--sink-metadata", "--yes");
  await shared.source.query("update orders set n = 11 where id < 20; delete from notes where id > 90");
  installation.text = installation.text.replace("shares: 2", "shares: 3");
  shared.count = 3;
  shared.add();
  await shared.spread(3);
  await shared.expectEqual(NAMES);
});
