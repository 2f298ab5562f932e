/**
 * A daemon does not end over what can heal without it, at any moment of its life: it waits, says for what, and goes on.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { z } from "zod";
import { freePort } from "../../../scripts/services/processes/port.ts";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { KafkaTopics } from "../../support/kafka/kafka-topics.ts";
import { listener } from "../../support/network/listener.ts";
import { tcpProxy } from "../../support/network/proxy.ts";
import { freshDatabase, kafkaBroker } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const TABLE = "create table t (id int primary key, n int, body text)";
const ROWS = "insert into t select g, 0, repeat('x', 1000) from generate_series(1, 5000) g";

const READYZ = z.object({ reasons: z.array(z.string()) });
const FAILING = z.object({ error: z.object({ code: z.string() }).nullable() });
const STATUS = z.object({ phase: z.string(), state: FAILING, source: FAILING });

interface Health {
  readonly healthz: number;
  readonly readyz: number;
  readonly reasons: string;
  readonly phase: string;
  readonly errors: readonly (string | undefined)[];
}

async function healthAt(port: number): Promise<Health> {
  const at = (path: string): Promise<Response> => fetch(`http://127.0.0.1:${port}${path}`);
  const [healthz, readyz, status] = await Promise.all([at("/healthz"), at("/readyz"), at("/api/v1/status")]);
  const { reasons } = READYZ.parse(await readyz.json());
  const document = STATUS.parse(await status.json());
  return {
    healthz: healthz.status,
    readyz: readyz.status,
    reasons: reasons.join("\n"),
    phase: document.phase,
    errors: [document.state.error?.code, document.source.error?.code],
  };
}

test("state, source and sinks away at the first start, the source in the first copy, the state for longer than a lease", async () => {
  const source = await freshDatabase();
  await using state = await freshDatabase();
  await using toSource = await tcpProxy(source.url);
  await using toState = await tcpProxy(state.url);
  await Promise.all([toSource.refuse(), toState.refuse()]);
  const port = await freePort();
  await using pipeline = await RunningPipeline.start(`${TABLE}; ${ROWS}`, {
    source,
    kinds: ["postgres", "redis"],
    isProxied: true,
    untilStreaming: false,
    configure: (config) => ({
      ...config,
      source: { ...config.source, url: toSource.url(source.url) },
      state: toState.url(state.url),
      admin: { listen: `127.0.0.1:${port}` },
    }),
  });
  const sinks = [...pipeline.sinks.proxies.values()];
  await Promise.all(sinks.map((proxy) => proxy.refuse()));
  const waitsFor = async (place: "state" | "source", code: string): Promise<void> => {
    const errors = place === "state" ? [code, undefined] : [undefined, code];
    const said = { healthz: 200, readyz: 503, phase: "starting", errors, reasons: expect.stringContaining(code) };
    await eventually(async () => expect(await healthAt(port)).toMatchObject(said), { withinMs: 60_000 });
    expect(pipeline.daemon.exited).toBe(false);
  };
  await waitsFor("state", "MR1215");
  await saysWhatItWaitsFor(pipeline.installation, `${toState.host}:${toState.port}`);
  expect(await pipeline.installation.command("wait", "--timeout", "1s")).toMatchObject({
    exitCode: 5,
    stdout: expect.stringMatching(/^timed out:\n {2}.*MR1215/),
  });
  const waited = pipeline.installation.command("wait", "--timeout", "300s");
  await toState.resume();
  await waitsFor("source", "MR2001");
  for (const proxy of sinks) await proxy.resume();
  await toSource.resume();
  toSource.limit(300_000);
  await eventually(async () => expect((await healthAt(port)).phase).toBe("snapshot"), { withinMs: 60_000 });
  await toSource.refuse();
  toSource.cut();
  await eventually(() => expect(pipeline.daemon.said).toContain("the copy of the table failed"));
  await toSource.resume();
  await pipeline.daemon.streaming();
  const { exitCode: ended, stdout: told, stderr } = await waited;
  expect({ ended, told, stderr: ended === 0 ? "" : stderr }).toEqual({
    ended: 0,
    told: "every sink is up to date\n",
    stderr: "",
  });
  await pipeline.expectEqual(["t"]);

  await toState.refuse();
  toState.cut();
  const waits = (): number => pipeline.daemon.said.match(/millrace waits: the state's Postgres server/g)?.length ?? 0;
  await eventually(() => expect(waits()).toBe(2), { withinMs: 90_000 });
  await pipeline.run("update t set n = n + 1");
  await toState.resume();
  await pipeline.daemon.streaming();
  await pipeline.expectEqual(["t"]);
  expect((await pipeline.daemon.stop()).exitCode).toBe(0);
});

/** The command asks over the socket: it can't ask the state. */
async function saysWhatItWaitsFor(installation: Installation, server: string): Promise<void> {
  const said = async () =>
    (await installation.status()).conditions.find(({ code }) => code === "MR1215") ?? { since: null, lastTried: null };
  await eventually(async () => expect(await said()).toMatchObject({ message: expect.stringContaining(server) }));
  const { since, lastTried } = await said();
  expect(since).not.toBeNull();
  // Since the first try, however often it is tried.
  await eventually(async () => expect((await said()).lastTried).not.toBe(lastTried));
  expect((await said()).since).toBe(since);
  const { stdout, exitCode } = await installation.command("status", "--exit-code");
  expect(exitCode).toBe(3);
  expect(stdout).toMatch(new RegExp(`MR1215 .* at ${server} .* \\(for \\d+ s, last tried`));
  expect(await installation.command("pause")).toMatchObject({ exitCode: 1, stderr: expect.stringContaining(server) });
}

test("brokers that are away at the first start, of a sink and of a source", async () => {
  await using topics = new KafkaTopics(kafkaBroker());
  const { broker, prefix } = topics;
  const database = await freshDatabase();
  await using toBroker = await tcpProxy(addressOf(broker));
  await toBroker.refuse();
  const brokers = [`${toBroker.host}:${toBroker.port}`];
  await database.query(`${TABLE}; ${ROWS}`);
  const { name } = database;
  await using follower = await RunningPipeline.start("", {
    kinds: ["postgres"],
    source: database,
    untilStreaming: false,
    configure: (config) => ({
      ...config,
      name: `${name}_b`,
      source: { kind: "kafka", brokers, prefix, from: name, heartbeat: "500ms" },
    }),
  });
  await using capture = new Installation({
    name,
    source: { kind: "postgres", url: database.url, heartbeat: "500ms" },
    sinks: { log: { kind: "kafka", brokers, prefix, format: "log" } },
  });
  const capturing = capture.run();
  await eventually(
    async () => {
      const { phase, source } = await follower.installation.status();
      expect({ phase, source }).toMatchObject({ phase: "starting", source: { error: { code: "MR2001" } } });
      const { sinks } = await capture.status();
      expect(sinks).toMatchObject([{ state: "retrying", error: { code: "MR2001" } }]);
    },
    { withinMs: 60_000 },
  );
  await toBroker.resume();
  await capturing.streaming();
  await follower.daemon.streaming();
  await follower.expectEqual(["t"]);
  expect([capturing.exited, follower.daemon.exited]).toEqual([false, false]);
});

test("the state and the brokers of a process that shares tables, away when it starts", async () => {
  await using state = await freshDatabase();
  await using toState = await tcpProxy(state.url);
  await using toBroker = await tcpProxy(addressOf(kafkaBroker()));
  await Promise.all([toState.refuse(), toBroker.refuse()]);
  const port = await freePort();
  const { name } = state;
  await using receiver = await listener();
  await using installation = new Installation({
    name,
    state: toState.url(state.url),
    source: { kind: "kafka", brokers: [`${toBroker.host}:${toBroker.port}`], from: `${name}_log`, shares: 2 },
    sinks: { target: { kind: "postgres", url: state.url } },
    admin: { listen: `127.0.0.1:${port}` },
    notify: { webhook: receiver.url, after: "0s", level: "watch" },
  });
  /** Of the process itself. */
  const told = (): readonly string[] =>
    receiver.heard.flatMap(({ body }) => {
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the message in its documented shape
      const { name: of, began, ended } = body as Record<"name", string> & Record<"began" | "ended", { kind: string }[]>;
      return of === name ? [...began.map(({ kind }) => `+${kind}`), ...ended.map(({ kind }) => `-${kind}`)] : [];
    });
  const process = installation.run();
  const waitsFor = async (code: string): Promise<void> => {
    const said = { healthz: 200, readyz: 503, phase: "starting", reasons: expect.stringContaining(code) };
    await eventually(async () => expect(await healthAt(port)).toMatchObject(said), { withinMs: 60_000 });
  };
  await waitsFor("MR1215");
  await eventually(() => expect(told()).toContain("+state.unwritable"));
  await toState.resume();
  await waitsFor("MR2001");
  await eventually(() => expect(told()).toContain("+source.failing"));
  await toBroker.resume();
  await eventually(() => expect(process.said).toContain('"shares":[1,2]'), { withinMs: 60_000 });
  // By now the daemon of the first share has the address: nobody has captured yet.
  await eventually(async () => expect((await healthAt(port)).reasons).not.toContain("MR2001"), { withinMs: 60_000 });
  const kinds = ["daemon.starting", "source.failing", "state.unwritable"];
  await eventually(() =>
    expect(told().toSorted()).toEqual([...kinds.map((k) => `+${k}`), ...kinds.map((k) => `-${k}`)]),
  );
  expect((await process.stop()).exitCode).toBe(0);
});

function addressOf(broker: string): { host: string; port: number } {
  const at = broker.lastIndexOf(":");
  return { host: broker.slice(0, at), port: Number(broker.slice(at + 1)) };
}
