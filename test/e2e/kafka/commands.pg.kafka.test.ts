/**
 * What operators do with a Kafka sink: the topics equal the source afterwards.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import type { Checked } from "../../support/postgres/administer.ts";
import type { CommandResult } from "../../support/daemon/daemon-process.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

const ORDERS = `create table orders (id int primary key, n int not null, body text);
  create table notes (id int primary key, text text);
  alter table orders alter column body set storage external;
  insert into orders select g, 0, repeat(md5(g::text), 90) from generate_series(1, 40) g;
  insert into notes select g, 'note' from generate_series(1, 5) g`;
const TABLES = ["orders", "notes"];
/** Each kind of change. */
const MOVES = [
  "insert into orders select g, 1, repeat(md5(g::text), 90) from generate_series(41, 60) g",
  "update orders set n = n + 1 where id <= 50",
  "delete from orders where id between 10 and 20; update orders set id = id + 500 where id between 21 and 25",
  "truncate notes",
  "insert into notes values (1, 'again'), (7, 'new'); insert into orders values (10, 7, 'back')",
  "update orders set body = n::text where id between 30 and 35; update orders set n = 99 where id between 32 and 45",
];

async function command(
  { installation }: RunningPipeline,
  exitCode: number,
  ...args: readonly string[]
): Promise<CommandResult> {
  const result = await installation.command(...args);
  expect(result, `${args.join(" ")}\n${result.stdout}\n${result.stderr}`).toMatchObject({ exitCode });
  return result;
}

async function move(pipeline: RunningPipeline): Promise<void> {
  for (const sql of MOVES) await pipeline.run(sql);
}

test("check, status, wait, pause, resume and snapshot with a Kafka sink; teardown leaves the topics with changes", async () => {
  await using pipeline = await RunningPipeline.start(ORDERS, { kinds: ["kafka"] });
  const { topics } = pipeline.sinks;
  await command(pipeline, 0, "wait");
  const { findings }: Checked = JSON.parse((await command(pipeline, 0, "check", "--json")).stdout);
  const ofSink = findings.filter(({ part }) => part === "kafka").map(({ id, level }) => [id, level]);
  expect(ofSink).toEqual(
    ["kafka.connect", "kafka.transactions", "kafka.retention", "kafka.topics", "kafka.acls"].map((id) => [id, "ok"]),
  );
  expect((await command(pipeline, 0, "status")).stdout).toMatch(/kafka \(kafka\) │ streaming/);

  await command(pipeline, 0, "pause", "--sink", "kafka");
  await move(pipeline);
  expect(await command(pipeline, 5, "wait", "--timeout", "1s")).toMatchObject({
    stdout: expect.stringContaining("sink kafka is paused"),
  });
  await command(pipeline, 0, "resume", "--sink", "kafka");
  await pipeline.expectEqual(TABLES);

  const readCount = async (): Promise<number> => {
    const records = await topics!.read(`${topics!.prefix}${pipeline.source.name}.public.orders`);
    return records.filter(({ value }) => value !== null && JSON.parse(value).op === "r").length;
  };
  const before = await readCount();
  await command(pipeline, 0, "snapshot", "start", "--tables", "public.orders", "--sink", "kafka");
  await pipeline.run("update orders set n = n + 1 where id < 8; delete from orders where id = 9");
  await eventually(async () => expect(await readCount()).toBeGreaterThan(before + 20));
  await pipeline.expectEqual(TABLES);

  await pipeline.daemon.stop();
  const names = await topics!.names();
  await command(pipeline, 0, "teardown", "--sink-metadata", "--yes");
  expect(await topics!.names()).toEqual(names);
  // A first start on topics that are there reads above them, and tells what is gone.
  await pipeline.run("update orders set n = -1 where id < 5; insert into orders values (900, 0, 'since')");
  await pipeline.run("delete from orders where id = 10 or id between 26 and 28");
  await pipeline.start();
  await pipeline.expectEqual(TABLES);
});
