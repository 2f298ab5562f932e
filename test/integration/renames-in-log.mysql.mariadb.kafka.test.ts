/** What the log says of names as far as a position: the server's own, and one in Kafka whose capturing daemon is away. */
import { expect, test } from "vitest";
import { sourceDefinition, sourceFactory as kafka } from "../../connectors/kafka/source/config.ts";
import { sourceFactory as mysql } from "../../connectors/mysql/source/config.ts";
import type { OnRenamed } from "../../src/core/contracts/change-log.ts";
import type { Source } from "../../src/core/contracts/source.ts";
import type { Position } from "../../src/core/model/position.ts";
import { Installation } from "../support/daemon/daemon-process.ts";
import { KafkaTopics } from "../support/kafka/kafka-topics.ts";
import { tcpProxy } from "../support/network/proxy.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { freshMysqlDatabase, kafkaBroker, mysqlFlavours, mysqlUrl } from "../support/run/services.ts";
import { eventually } from "../support/run/waiting.ts";

const signal = AbortSignal.timeout(100_000);
const at = (commit: bigint): Position => ({ epoch: 1, commit, index: 0 });
/** More than the buffers between a server and its reader hold. */
const LARGE_ROWS = 10;
const LARGE_CHARACTERS = 4_000_000;

test.each(mysqlFlavours)("%s", async (flavour) => {
  await using owned = new AsyncDisposableStack();
  const { name, connection } = owned.use(await freshMysqlDatabase(mysqlUrl(flavour)));
  const other = owned.use(await freshMysqlDatabase(mysqlUrl(flavour)));
  const { broker, prefix, admin } = owned.use(new KafkaTopics(kafkaBroker()));
  const url = new URL(mysqlUrl(flavour));
  url.pathname = `/${name}`;
  await connection.query("create table a (id int primary key)");
  await other.connection.query("create table t (id int primary key)");
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
    // The log in Kafka has nothing of it, and so no frame that ends there.
    for (let id = 0; id < 20; id++) await other.connection.query(`insert into t values (${id})`);
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
  expect({ server: await told(server), behind: await told(behind) }).toEqual({ server: expected, behind: expected });
  const partitions = [{ partition: 0, offset: -1n }];
  await admin.deleteRecords({ topics: [{ name: `${prefix}${name}._log`, partitions }] });
  await capturing(async () => void (await connection.query("insert into c values (1)")));
  await expect(told(behind)).rejects.toMatchObject({ code: "MR2010" });
});

test.each(mysqlFlavours)("%s: where the server gives up what it sends is not the end of its log", async (flavour) => {
  await using owned = new AsyncDisposableStack();
  const database = owned.use(await freshMysqlDatabase(mysqlUrl(flavour)));
  const { name, connection } = database;
  const proxy = owned.use(await tcpProxy(mysqlUrl(flavour)));
  const url = new URL(proxy.url(mysqlUrl(flavour)));
  url.pathname = `/${name}`;
  const common = { folder: ".", tables: [`${name}.*`], daemon: "reader" };
  const { log, close } = await mysql.create({ ...common, options: { url: url.href } }, quietLog);
  owned.defer(close);
  await connection.query("create table a (id int primary key, v longtext)");
  const from = await log.tip(signal);
  for (let id = 0; id < LARGE_ROWS; id++)
    await connection.query(`insert into a values (${id}, repeat('x', ${LARGE_CHARACTERS}))`);
  await connection.query("rename table a to b");
  const renamed: string[] = [];
  const onRenamed: OnRenamed = (some) => {
    renamed.push(...(some ?? []).map(({ to }) => to).filter((to) => to.startsWith(`${name}.`)));
  };
  const walk = async (): Promise<bigint> => await log.renames!(at(from), null, onRenamed, signal);
  const walking = walk();
  walking.catch(() => undefined);
  proxy.limit(LARGE_CHARACTERS / 4);
  const sending = `select id from information_schema.processlist where db = '${name}' and command like 'Binlog Dump%'`;
  await eventually(async () => {
    const [[id] = []] = await database.texts(sending);
    expect(id).toBeDefined();
    await connection.query(`kill query ${id}`);
  });
  await proxy.resume();
  await expect(walking).rejects.toMatchObject({
    code: "MR2006",
    kind: "retryable",
    message: expect.stringContaining("before"),
  });
  expect(renamed).toEqual([]);
  await walk();
  expect(renamed).toEqual([`${name}.b`]);
});
