/**
 * A log in Kafka between two daemons that are killed, and a log that is lost: the applying side's sinks equal the source.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { Random, testSeed } from "../../support/run/random.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import { ThroughKafka } from "../../support/kafka/through-kafka.ts";
import { eventually, patient } from "../../support/run/waiting.ts";
import { Workload, WORKLOAD_TABLES } from "../../support/load/workload.ts";

/** Each at a random passage up to that one. */
const APPLYING: Readonly<Record<string, number>> = {
  "sink.applied": 20,
  "ack.stored": 2,
  "snapshot.chunk-durable": 2,
  "fan-out.dispatched": 30,
};
const CAPTURING: Readonly<Record<string, number>> = {
  "kafka.before-transaction": 8,
  "kafka.after-transaction": 8,
  "fan-out.dispatched": 20,
};

/** In the long form all of them. */
function chosen(random: Random, failpoints: Readonly<Record<string, number>>): readonly (readonly [string, number])[] {
  const all = Object.entries(failpoints);
  return isLongForm() ? all : [random.pick(all)];
}

test(
  "killed at failpoints on both sides under load, the applying side goes on: nothing is lost or comes back",
  { tags: "heavy" },
  async () => {
    const random = new Random(testSeed());
    const workloads: Workload[] = [];
    await using through = await ThroughKafka.start(
      async (source) => {
        workloads.push(new Workload(source.url, random.seed));
        await workloads[0]!.createTables(200);
      },
      { kinds: ["postgres", "redis"] },
    );
    await using workload = workloads[0]!;
    const { applying, capture } = through;
    workload.start(30);
    for (const [name, countMax] of chosen(random, APPLYING)) {
      await applying.kill();
      applying.daemon = applying.installation.run({
        MILLRACE_FAILPOINTS: `${name}=kill@${1 + random.below(countMax)}`,
      });
      const isThere = async (): Promise<void> => {
        if (!applying.daemon.exited) await applying.readAgain("public.account", "public.line");
      };
      if (name.startsWith("snapshot.")) await eventually(isThere);
      await applying.killed(name);
      applying.daemon = applying.installation.run();
    }
    for (const [name, countMax] of chosen(random, CAPTURING)) {
      await through.capturing.kill();
      through.capturing = capture.run({ MILLRACE_FAILPOINTS: `${name}=kill@${1 + random.below(countMax)}` });
      await Promise.race([through.capturing.ended, sleep(patient(60_000), undefined, { ref: false })]);
      expect({ name, exited: through.capturing.exited }, through.capturing.said.slice(-2_000)).toMatchObject({
        exited: true,
      });
      through.capturing = capture.run();
      await through.capturing.streaming();
    }
    await applying.run(
      "alter table account add column later int default 3; update account set later = id where id < 50",
    );
    await workload.stop();
    await applying.expectEqual(WORKLOAD_TABLES);
  },
);

const ITEMS = `create table item (id int primary key, n int, body text);
  insert into item select g, 0, repeat(md5(g::text), 9) from generate_series(1, 300) g`;

async function recovered(through: ThroughKafka, code: string): Promise<void> {
  const { applying } = through;
  applying.daemon = applying.installation.run();
  const { exitCode, stderr } = await applying.daemon.ended;
  expect({ exitCode, stderr }).toEqual({ exitCode: 1, stderr: expect.stringContaining(code) });
  const command = await applying.installation.command("recover", "--yes", "--json");
  expect(command, command.stderr).toMatchObject({ exitCode: 0 });
  expect(JSON.parse(command.stdout)).toMatchObject({ applied: true, lost: { code } });
  applying.daemon = applying.installation.run();
  await applying.daemon.streaming();
  await applying.expectEqual(["item"]);
}

test(
  "a log that retention has cut, and one that was deleted, stop the applying side; recover brings it back",
  { tags: "long" },
  async () => {
    await using through = await ThroughKafka.start(ITEMS, { kinds: ["postgres", "redis"] });
    const { applying, topics, capture } = through;
    const log = `${topics.prefix}${capture.name}._log`;
    await applying.expectEqual(["item"]);
    await applying.daemon.stop();
    await applying.run("update item set n = 1 where id < 40; delete from item where id > 290");
    const settled = await capture.command("wait");
    expect(settled, settled.stderr).toMatchObject({ exitCode: 0 });
    await topics.admin.deleteRecords({ topics: [{ name: log, partitions: [{ partition: 0, offset: -1n }] }] });
    await applying.run("insert into item values (1000, 0, 'after')");
    expect((await capture.command("wait")).exitCode).toBe(0);
    await recovered(through, "MR2010");

    await topics.remove([log]);
    await applying.run(
      "update item set n = 2 where id between 30 and 60; delete from item where id between 100 and 110",
    );
    // The capturing daemon makes it again.
    await eventually(async () => expect(await topics.names()).toContain(log), { withinMs: 60_000 });
    await applying.daemon.ended;
    await recovered(through, "MR2013");
  },
);

test(
  "changes that rules left out of the log while the applying side was away, and of which no row tells, are read",
  { tags: "long" },
  async () => {
    const rules = (where: string): object => ({ tables: { "public.item": { where } } });
    await using through = await ThroughKafka.start(ITEMS, {
      kinds: ["postgres", "redis"],
      capture: rules("id > 0"),
    });
    const { applying, capture } = through;
    await applying.expectEqual(["item"]);
    await applying.daemon.stop();
    await through.captureAgain(rules("id > 1000"));
    // Updates and deletes would show the key.
    await applying.run("insert into item select g, 5, 'left out' from generate_series(500, 520) g");
    expect((await capture.command("wait")).exitCode).toBe(0);
    await through.captureAgain(rules("id > 0"));
    applying.daemon = applying.installation.run();
    await applying.daemon.streaming();
    await applying.expectEqual(["item"]);
  },
);

test(
  "a table that the capturing side left out for a while, which no row shows, is read, whether the applying side was away or not",
  { tags: "heavy" },
  async () => {
    // The server's own list of tables stays as it is, and so does the table.
    await using through = await ThroughKafka.start(
      async (source) => {
        await source.query(`${ITEMS}; create table note (id int primary key, n int); insert into note values (1, 1)`);
        await source.query(`create publication "millrace_${source.name}" for all tables`);
      },
      { kinds: ["postgres", "redis"] },
    );
    const { applying, capture, source } = through;
    const captureOnly = async (...tables: readonly string[]): Promise<void> =>
      await through.captureAgain({ source: { kind: "postgres", url: source.url, heartbeat: "500ms", tables } });
    const captured = async (): Promise<void> => expect((await capture.command("wait")).exitCode).toBe(0);
    await applying.expectEqual(["item", "note"]);

    await applying.daemon.stop();
    await captureOnly("public.note");
    await applying.run("update item set n = 5 where id < 20; delete from item where id > 290");
    await captured();
    await captureOnly("public.*");
    await applying.run("update note set n = 2");
    applying.daemon = applying.installation.run();
    await applying.daemon.streaming();
    await applying.expectEqual(["item", "note"]);

    await captureOnly("public.note");
    await applying.run("update item set n = 6 where id < 20; delete from item where id > 280");
    await captured();
    await eventually(async () => {
      const { stdout } = await applying.installation.command("status", "--json");
      expect(JSON.parse(stdout)).toMatchObject({ tables: { captured: 1 } });
    });
    await captureOnly("public.*");
    await applying.run("update note set n = 3");
    await applying.expectEqual(["item", "note"]);
  },
);
