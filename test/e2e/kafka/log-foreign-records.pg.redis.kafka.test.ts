/**
 * Another program writes into the log between two daemons: the applying side passes over what is no part of the log, and
 * `recover` leads behind what can't be read.
 * @module-tag heavy
 */
import { topicsOf } from "../../../connectors/kafka/client/cluster.ts";
import { expect, test } from "vitest";
import { connect } from "../../../connectors/kafka/client/connect.ts";
import { RecordBatch } from "../../../connectors/kafka/client/record-batch.ts";
import { TransactionalWriter } from "../../../connectors/kafka/client/transactions.ts";
import { ByteWriter } from "../../../src/core/bytes.ts";
import { systemClock } from "../../../src/core/clock.ts";
import { timeout } from "../../conformance/stage.ts";
import { ThroughKafka } from "../../support/kafka/through-kafka.ts";
import { eventually } from "../../support/run/waiting.ts";

const ITEMS = `create table item (id int primary key, n int, body text);
  insert into item select g, 0, '' from generate_series(1, 300) g`;
/** Text, JSON, and what a part of a message in the log begins with: its first, a further one, its last, and all of it. */
const VALUES = ["hello", '{"hello":1}', "\u0001first", "\u0000more", "\u0002last", "\u0003all", null];
const UNREADABLE = "\u0003\u0001no frame";
/** In two records or more. */
const LARGE = "update item set n = n + 1, body = repeat(md5(id::text), 500)";

function logOf({ topics, capture }: ThroughKafka): string {
  return `${topics.prefix}${capture.name}._log`;
}

async function writeForeign(through: ThroughKafka): Promise<void> {
  const records = VALUES.map((value) => ({ topic: logOf(through), partition: 0, offset: 0n, key: null, value }));
  const all = records.flatMap((one) => [one, { ...one, key: "key" }]);
  await through.topics.write(all.map((one) => ({ ...one, headers: new Map() })));
}

/** As the log is written: in a transaction, and whole. */
async function writeUnreadable(through: ThroughKafka, count: number): Promise<void> {
  const { broker, prefix } = through.topics;
  const settings = { brokers: [broker], clientId: "other", tls: null, sasl: null };
  await using cluster = await connect(() => settings, timeout());
  const name = logOf(through);
  const topic = (await topicsOf(cluster, [name], timeout())).get(name)!;
  const options = { clock: systemClock, id: `${prefix}other`, compression: "none" } as const;
  const writer = await TransactionalWriter.open(cluster, options, timeout());
  const batch = new RecordBatch(new ByteWriter(1024));
  for (let i = 0; i < count; i++) batch.add(null, Buffer.from(UNREADABLE), [], Date.now());
  await writer.write([{ name, topic, batches: [{ partition: 0, batch }] }], timeout());
}

test("records of another program are passed over, also between the parts of a frame, and status says so", async () => {
  await using through = await ThroughKafka.start(ITEMS, { kinds: ["postgres", "redis"] });
  const { applying } = through;
  await writeForeign(through);
  await applying.run("update item set n = 1 where id < 40");
  await writeForeign(through);
  const isOver = { yet: false };
  const writing = (async () => {
    while (!isOver.yet) await writeForeign(through);
  })();
  for (let i = 0; i < 5; i++) await applying.run(LARGE);
  isOver.yet = true;
  await writing;
  await applying.expectEqual(["item"]);
  await eventually(async () => {
    const { source } = await applying.installation.status();
    expect(source.hints).toEqual([expect.stringContaining(`topic ${logOf(through)} has records of another program`)]);
  });
  await applying.daemon.stop();
  await writeForeign(through);
  await applying.run("delete from item where id > 290");
  await applying.start();
  await applying.expectEqual(["item"]);
});

test("frames that can't be read stop the applying side, running or not; recover goes on behind them", async () => {
  await using through = await ThroughKafka.start(ITEMS, { kinds: ["postgres", "redis"] });
  const { applying } = through;
  const { installation } = applying;
  await applying.expectEqual(["item"]);
  /** `nth`: at which of the records that can't be read. */
  const stopped = async (nth: number): Promise<void> => {
    const { exitCode, stderr } = await applying.daemon.ended;
    expect({ exitCode, stderr }).toEqual({ exitCode: 1, stderr: expect.stringContaining("MR2023") });
    const records = await through.topics.read(logOf(through));
    const { offset } = records.filter(({ value }) => value === UNREADABLE)[nth]!;
    const { stdout } = await installation.command("status", "--json");
    expect(JSON.parse(stdout).conditions).toContainEqual(
      expect.objectContaining({
        code: "MR2023",
        message: expect.stringContaining(`the record at offset ${offset} of topic ${logOf(through)}`),
        fix: expect.stringContaining("millrace recover"),
      }),
    );
  };
  const recovered = async (): Promise<void> => {
    const { stdout, stderr, exitCode } = await installation.command("recover", "--yes", "--json");
    expect(exitCode, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ applied: true, lost: { code: "MR2023" } });
    await applying.start();
    await applying.expectEqual(["item"]);
  };

  await writeUnreadable(through, 1);
  await applying.run("update item set n = 1 where id < 40; delete from item where id > 290");
  await stopped(0);
  // Nothing has changed for the next start.
  await applying.start(false);
  await stopped(0);
  await recovered();

  await applying.daemon.stop();
  await applying.run("update item set n = 2 where id < 20");
  await writeUnreadable(through, 3);
  await applying.run("insert into item values (1000, 0, '')");
  await writeUnreadable(through, 1);
  await applying.start(false);
  await stopped(1);
  await recovered();
  await applying.run("update item set n = 3");
  await applying.expectEqual(["item"]);
  await applying.daemon.stop();
  const reset = await installation.command("offsets", "reset", "--to", "earliest", "--yes");
  expect(reset, reset.stderr).toMatchObject({ exitCode: 0 });
  await applying.start();
  await applying.expectEqual(["item"]);
});
