/** One daemon captures into a log in Kafka, another one applies from it: its sinks equal the source. */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Daemon } from "../../support/daemon/daemon-process.ts";
import { ThroughKafka } from "../../support/kafka/through-kafka.ts";
import { eventually } from "../../support/run/waiting.ts";

const MADE = `create table orders (id int primary key, n int not null, body text);
  create table notes (id int primary key, text text);
  alter table orders alter column body set storage external;
  insert into orders select g, 0, repeat(md5(g::text), 90) from generate_series(1, 400) g;
  insert into notes select g, 'note' from generate_series(1, 5) g`;
const TABLES = ["orders", "notes"];

let through: ThroughKafka;

beforeAll(async () => {
  const capture = { tables: { "public.notes": { schemaChange: "pause" } } };
  through = await ThroughKafka.start(MADE, { kinds: ["postgres", "redis"], capture });
});

afterAll(async () => {
  await through?.[Symbol.asyncDispose]();
});

test("the rows from before, changes of every kind, and a new shape", async () => {
  const { applying } = through;
  await applying.expectEqual(TABLES);
  await applying.run("insert into orders select g, 1, repeat(md5(g::text), 90) from generate_series(401, 460) g");
  await applying.run("update orders set n = n + 1 where id <= 50");
  await applying.run(
    "delete from orders where id between 10 and 20; update orders set id = id + 5000 where id between 21 and 25",
  );
  await applying.run("truncate notes; insert into notes values (1, 'again'), (7, 'new')");
  await applying.expectEqual(TABLES);
  await applying.run("alter table orders add column extra int default 7; update orders set extra = 8 where id < 40");
  await applying.run("create table late (id int primary key, n int); insert into late values (1, 1), (2, 2)");
  await applying.expectEqual([...TABLES, "late"]);
});

test("further processes with the same configuration wait, and one of them takes over when the first ends", async () => {
  const { applying } = through;
  const { installation } = applying;
  const waiting = [installation.run(), installation.run()];
  await eventually(() => waiting.every(({ said }) => said.includes("takes over when it ends")));
  expect(await installation.command("run", "--once")).toMatchObject({ exitCode: 4 });
  const taken = async (from: Daemon[]): Promise<Daemon> => {
    const runs = ({ said }: Daemon): boolean => said.includes("millrace is running");
    await eventually(() => from.some(runs));
    const [next] = from.splice(from.findIndex(runs), 1);
    return next!;
  };
  await applying.daemon.kill();
  await applying.run("update orders set n = n + 1 where id between 100 and 150");
  applying.daemon = await taken(waiting);
  await applying.expectEqual(TABLES);
  await applying.daemon.stop();
  await applying.run("update orders set n = n + 1 where id between 140 and 200");
  applying.daemon = await taken(waiting);
  await applying.expectEqual(TABLES);
});

async function command(exitCode: number, ...args: readonly string[]): Promise<string> {
  const result = await through.applying.installation.command(...args);
  expect(result, `${args.join(" ")}\n${result.stdout}\n${result.stderr}`).toMatchObject({ exitCode });
  return result.stdout;
}

test("what operators do on the applying side", { tags: "heavy" }, async () => {
  const { applying, capture } = through;
  expect(JSON.parse(await command(0, "check", "--json")).findings).toMatchObject(
    expect.arrayContaining([expect.objectContaining({ id: "kafka.capture", level: "ok" })]),
  );
  await applying.run("update orders set n = -1 where id = 60");
  await command(0, "wait");
  expect(await command(0, "status")).toMatch(/redis \(redis\) +│ streaming/);
  await command(0, "pause", "--sink", "redis");
  await applying.run("update orders set n = 77 where id between 60 and 70; delete from orders where id = 71");
  await command(0, "resume", "--sink", "redis");
  await applying.expectEqual(TABLES);

  // Exact while the tables are written to: the marks of both sides pass through the log.
  const reconciled = JSON.parse(await command(0, "reconcile", "--json"));
  expect(reconciled).toMatchObject({ drift: false, notComparable: [] });
  await applying.sinks.target!.query("delete from orders where id = 61; update orders set n = 5 where id = 62");
  expect(await command(3, "reconcile", "--sink", "postgres", "--repair")).toContain("everything is repaired");
  await applying.expectEqual(TABLES);

  await applying.sinks.target!.query("delete from orders where id = 63");
  await command(0, "snapshot", "start", "--tables", "public.orders", "--sink", "postgres");
  await applying.run("update orders set n = 78 where id between 65 and 70");
  await applying.expectEqual(TABLES);

  const shown = JSON.parse(await command(0, "offsets", "show", "--json"));
  expect(JSON.stringify(shown)).toContain("postgres");
  await applying.daemon.stop();
  await command(0, "offsets", "reset", "--sink", "redis", "--to", "earliest", "--yes");
  await applying.run("delete from notes where id = 100; insert into notes values (100, 'while it was down')");
  applying.daemon = applying.installation.run();
  await applying.daemon.streaming();
  await applying.expectEqual(TABLES);
  expect((await capture.command("status")).stdout).toMatch(/log \(kafka\) +│ streaming/);
});

let tries = 0;

test("a table that waits for approval on the capturing side is left out of the log, and is read again afterwards", async () => {
  const { applying, capture } = through;
  // A second try begins with what the first one has left.
  const nth = ++tries;
  const [seen, unseen] = [9000 + nth, `unseen ${nth}`];
  const isSuspended = async (): Promise<boolean> => (await capture.status()).tables.suspended.length > 0;
  await applying.run(`alter table notes add column more_${nth} int; update notes set more_${nth} = 1`);
  await eventually(isSuspended);
  await applying.run(`update notes set text = '${unseen}'; insert into orders values (${seen}, 1, 'seen')`);
  await eventually(async () => {
    const { rows } = await applying.sinks.target!.query(`select from orders where id = ${seen}`);
    return rows.length === 1;
  });
  const { rows } = await applying.sinks.target!.query(`select from notes where text = '${unseen}'`);
  expect(rows).toEqual([]);
  expect((await capture.command("schema", "approve", "public.notes")).exitCode).toBe(0);
  await applying.run(`insert into notes (id, text, more_${nth}) values (${200 + nth}, 'after', 2)`);
  await eventually(
    async () =>
      expect(await applying.sinks.differences(applying.source.url, applying.installation.folder, TABLES)).toEqual([]),
    { withinMs: 60_000 },
  );
  await applying.expectEqual(TABLES);
});

test(
  "a read with a condition is run by the capturing daemon where its sink allows it, and refused elsewhere",
  { tags: "heavy" },
  async () => {
    const { applying } = through;
    const start = ["snapshot", "start", "--tables", "public.orders", "--sink", "postgres", "--where"];
    const refused = await applying.installation.command(...start, "n = 77");
    expect(refused).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("MR1323") });
    expect(refused.stderr).toContain("MR1323");
    await through.captureAgain({}, { conditions: true });

    await applying.expectEqual(TABLES);
    const { target } = applying.sinks;
    await target!.query("update orders set n = -7 where id = 62; update orders set n = -7 where id = 3");
    const source = await applying.source.query<{ n: number }>("select n from orders where id = 62");
    const reset = `n = ${source.rows[0]!.n}`;
    await command(0, ...start, reset);
    const read = async (id: number): Promise<number> =>
      (await target!.query<{ n: number }>("select n from orders where id = $1", [id])).rows[0]!.n;
    await eventually(async () => expect(`n = ${await read(62)}`).toBe(reset));
    await command(0, "wait");
    expect(await read(3), "the condition does not match it").toBe(-7);

    for (const wrong of [
      "no_such_column = 1",
      "true); drop table notes; --",
      "id in (delete from notes returning id)",
    ]) {
      const result = await applying.installation.command(...start, wrong);
      expect(result, result.stderr).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("MR1323") });
    }
    // While it is stopped, too.
    await applying.daemon.stop();
    await command(0, ...start, "id = 3");
    applying.daemon = applying.installation.run();
    await applying.daemon.streaming();
    await applying.expectEqual(TABLES);
  },
);
