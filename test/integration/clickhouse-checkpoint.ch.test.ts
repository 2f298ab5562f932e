/**
 * A ClickHouse sink's checkpoint that somebody put back or a replica does not show, and processes that take it over.
 * @module-tag heavy
 */
import { createServer, request } from "node:http";
import { buffer } from "node:stream/consumers";
import { expect, test } from "vitest";
import { Reports, progressAt, timeout } from "../conformance/stage.ts";
import { clickhouseTarget } from "../support/warehouses/clickhouse-target.ts";
import { clickhouseUrl } from "../support/run/services.ts";

const COPY = "millrace.copied_progress";

test("a checkpoint that was put back to an older copy is taken over, and written on", async () => {
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, clickhouseUrl());
  const first = await target.makeSink();
  await first.open(1, timeout());
  const write = async (sink: typeof first, at: bigint): Promise<void> =>
    await sink.apply({ kind: "progress", progress: progressAt(at) }, new Reports(), timeout());
  await write(first, 10n);
  const own = `sink = '${target.sink}'`;
  await target.query(
    `CREATE TABLE ${COPY} ENGINE = MergeTree ORDER BY sink AS SELECT * FROM millrace.progress FINAL WHERE ${own}`,
  );
  for (let at = 11n; at < 20n; at++) await write(first, at);
  await target.query(`ALTER TABLE millrace.progress DELETE WHERE ${own} SETTINGS mutations_sync = 2`);
  await target.query(`INSERT INTO millrace.progress SELECT * FROM ${COPY}`);
  await target.query(`DROP TABLE ${COPY} SYNC`);
  await first.close();
  const second = await target.makeSink();
  const held = await second.open(2, timeout());
  expect(held?.position.commit).toBe(10n);
  for (let at = 11n; at < 25n; at++) await write(second, at);
  expect((await second.look(timeout()))?.position.commit).toBe(24n);
  await second.close();
});

test("a sink that forgets its checkpoint leaves the table to those that have just begun to use it", async () => {
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, clickhouseUrl());
  await using other = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, clickhouseUrl());
  const [going, coming] = [await target.makeSink(), await other.makeSink()];
  await going.open(1, timeout());
  await going.apply({ kind: "progress", progress: progressAt(10n) }, new Reports(), timeout());
  // Whatever the order of these two is.
  await Promise.all([going.forget(timeout()), coming.open(1, timeout())]);
  await coming.apply({ kind: "progress", progress: progressAt(20n) }, new Reports(), timeout());
  await coming.verify(timeout());
  expect(await going.look(timeout())).toBeNull();
  const tables = await target.query("SELECT name FROM system.tables WHERE database = 'millrace' ORDER BY name");
  expect(tables).toEqual([["progress"], ["targets"]]);
  for (const sink of [going, coming]) await sink.close();
});

/** Simulates replicas: a gateway that answers reads of checkpoints as it answered them before, as long as it is asked to. */
async function staleGateway(target: string) {
  const { hostname, port } = new URL(target);
  const state = { isStale: false, reads: 0 };
  const before = new Map<string, Buffer>();
  const server = createServer((message, response) => {
    const answer = async (): Promise<void> => {
      const body = await buffer(message);
      const text = body.toString("latin1");
      const isRead = text.startsWith("SELECT revision");
      const kept = before.get(text);
      if (isRead) state.reads++;
      if (isRead && state.isStale && kept !== undefined) {
        response.end(kept);
        return;
      }
      const { "transfer-encoding": _, ...headers } = message.headers;
      const options = { hostname, port, path: message.url, method: message.method };
      const forwarded = request({ ...options, headers: { ...headers, "content-length": body.length } }, (reply) => {
        void buffer(reply).then((bytes) => {
          if (isRead && !state.isStale) before.set(text, bytes);
          response.writeHead(reply.statusCode ?? 500, reply.headers).end(bytes);
        });
      });
      forwarded.once("error", () => response.destroy()).end(body);
    };
    answer().catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the gateway has no port");
  return {
    url: `http://127.0.0.1:${address.port}`,
    state,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

test("a checkpoint that a replica does not show yet is waited for with pauses; our own lease is no stranger's", async () => {
  await using gateway = await staleGateway(clickhouseUrl());
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, gateway.url);
  const sink = await target.makeSink();
  await sink.open(1, timeout());
  const write = async (at: bigint): Promise<void> =>
    await sink.apply({ kind: "progress", progress: progressAt(at) }, new Reports(), timeout());
  await write(10n);
  const { state } = gateway;
  state.isStale = true;
  state.reads = 0;
  setTimeout(() => (state.isStale = false), 300);
  await write(11n);
  expect(state.reads).toBeLessThan(10);
  state.isStale = true;
  state.reads = 0;
  // For good: it is told, and may pass.
  await expect(write(12n)).rejects.toMatchObject({ code: "MR4113", kind: "retryable" });
  expect(state.reads).toBeLessThan(30);
  state.isStale = false;
  const held = await sink.open(1, timeout());
  expect(held?.position.commit).toBe(12n);
  await write(13n);
  await sink.close();
});
