/** What the log says of names as far as a position: the server's own, and one in Kafka whose capturing daemon is away. */
import { expect, test } from "vitest";
import { sourceDefinition, sourceFactory as kafka } from "../../connectors/kafka/source/config.ts";
import { sourceFactory as mysql } from "../../connectors/mysql/source/config.ts";
import type { Source } from "../../src/core/contracts/source.ts";
import type { Position } from "../../src/core/model/position.ts";
import { Installation } from "../support/daemon/daemon-process.ts";
import { KafkaTopics } from "../support/kafka/kafka-topics.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { freshMysqlDatabase, kafkaBroker, mysqlFlavours, mysqlUrl } from "../support/run/services.ts";

const signal = AbortSignal.timeout(100_000);
const at = (commit: bigint): Position => ({ epoch: 1, commit, index: 0 });

test.each(mysqlFlavours)("%s", async (flavour) => {
  await using owned = new AsyncDisposableStack();
  const { name, connection } = owned.use(await freshMysqlDatabase(mysqlUrl(flavour)));
  const { broker, prefix, admin } = owned.use(new KafkaTopics(kafkaBroker()));
  const url = new URL(mysqlUrl(flavour));
  url.pathname = `/${name}`;
  await connection.query("create table a (id int primary key)");
  const sinks = { log: { kind: "kafka", brokers: [broker], prefix, format: "log" } };
  const captured = { kind: "mysql", url: url.href, heartbeat: "500ms" };
  const capture = owned.use(new Installation({ name, source: captured, sinks }));
  const common = { folder: ".", tables: [`${name}.*`] };
  const server = await mysql.create({ ...common, daemon: "reader", options: { url: url.href } }, quietLog);
  owned.defer(() => server.close());
  const options = sourceDefinition.parse({ brokers: [broker], prefix, from: name });
  const behind = await kafka.create({ ...common, daemon: "behind", options }, quietLog);
  owned.defer(() => behind.close());
  /** Runs the capturing daemon until all of this is in its log. */
  const capturing = async (work: () => Promise<void>): Promise<void> => {
    const daemon = capture.run();
    await daemon.streaming();
    await work();
    expect((await capture.command("wait")).exitCode).toBe(0);
    await daemon.stop();
  };
  let [from, to] = [0n, 0n];
  await capturing(async () => {
    from = await server.log.tip(signal);
    await connection.query("rename table a to b");
    to = await server.log.tip(signal);
    await connection.query("rename table b to c");
  });
  const told = async ({ log }: Source): Promise<object> => {
    const renamed: string[] = [];
    const end = await log.renames!(
      at(from),
      at(to),
      (renames, { commit }) => {
        const own = (renames ?? []).filter((one) => commit < to && one.from.startsWith(`${name}.`));
        renamed.push(...own.map((one) => `${one.from} ${one.to}`));
      },
      signal,
    );
    return { end, renamed };
  };
  const expected = { end: to, renamed: [`${name}.a ${name}.b`] };
  expect(await told(server)).toEqual(expected);
  expect(await told(behind)).toEqual(expected);
  const partitions = [{ partition: 0, offset: -1n }];
  await admin.deleteRecords({ topics: [{ name: `${prefix}${name}._log`, partitions }] });
  await capturing(async () => void (await connection.query("insert into c values (1)")));
  await expect(told(behind)).rejects.toMatchObject({ code: "MR2010" });
});
