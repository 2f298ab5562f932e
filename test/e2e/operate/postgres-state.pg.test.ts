/** `state: postgres://…`: the same daemon, its state on a server. */
import { expect, test } from "vitest";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { OnCall } from "../../support/daemon/on-call.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { expectFirstSaid, literally } from "../../support/daemon/told.ts";
import { tcpProxy } from "../../support/network/proxy.ts";
import { freshDatabase } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const TABLE =
  "create table orders (id int primary key, n int); insert into orders select g, 0 from generate_series(1, 200) g";

test("commands work with and without the daemon; a second one is refused wherever it runs; no password is said", async () => {
  await using state = await freshDatabase();
  await using pipeline = await RunningPipeline.start(TABLE, {
    kinds: ["postgres"],
    configure: (config) => ({ ...config, state: state.url }),
  });
  const { installation } = pipeline;
  await pipeline.settled();
  await using elsewhere = new Installation({
    name: pipeline.source.name,
    source: { kind: "postgres", url: pipeline.source.url },
    state: state.url,
    sinks: pipeline.sinks.config,
  });
  const second = await elsewhere.command("run");
  expect(second, second.stderr).toMatchObject({
    exitCode: 4,
    stderr: expect.stringContaining(`pid ${pipeline.daemon.pid}`),
  });
  expect(await elsewhere.command("offsets", "reset", "--to", "latest", "--yes")).toMatchObject({ exitCode: 4 });
  expect(await elsewhere.command("pause")).toMatchObject({ exitCode: 4 });
  const holder = `pid ${pipeline.daemon.pid} `;
  const seen = await elsewhere.command("status");
  expect(seen).toMatchObject({ exitCode: 0, stdout: expect.stringContaining("no daemon listens here") });
  expect(seen.stdout).toContain(holder);
  expect(await elsewhere.command("wait", "--timeout", "1ms")).toMatchObject({
    exitCode: 5,
    stdout: expect.stringContaining(holder),
  });
  expect((await pipeline.daemon.stop()).exitCode).toBe(0);

  expect(await elsewhere.command("check")).toMatchObject({ exitCode: 0 });
  expect(await elsewhere.command("pause")).toMatchObject({ exitCode: 0 });
  expect((await installation.command("status")).stdout).toContain("paused");
  expect(await elsewhere.command("resume")).toMatchObject({ exitCode: 0 });
  expect(await elsewhere.command("offsets", "reset", "--to", "latest", "--yes")).toMatchObject({ exitCode: 0 });
  await pipeline.run("update orders set n = 5 where id < 50");
  await pipeline.start();
  await pipeline.expectEqual(["orders"]);

  await using wrong = new Installation({
    name: pipeline.source.name,
    source: { kind: "postgres", url: pipeline.source.url },
    state: "postgres://nobody:hunter2secret@127.0.0.1:1/none",
    sinks: pipeline.sinks.config,
  });
  const refused = await wrong.command("status");
  expect(refused).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("MR1215") });
  expect(refused.stderr + refused.stdout).not.toContain("hunter2secret");
});

test("a server of the state that is away is told at once, not when the lease ends; so is a sink whose url is wrong", async () => {
  await using state = await freshDatabase();
  await using proxy = await tcpProxy(state.url);
  await using pipeline = await RunningPipeline.start(TABLE, {
    kinds: ["sqlite"],
    configure: (config) => ({ ...config, state: proxy.url(state.url) }),
  });
  const { installation } = pipeline;
  await pipeline.settled();
  await proxy.refuse();
  proxy.cut();
  await eventually(
    async () => {
      const { conditions } = await installation.status();
      expect(conditions).toMatchObject([{ kind: "state.unwritable", code: "MR1215", blocks: ["ready"] }]);
      expect(conditions[0]?.message).toContain(`${proxy.host}:${proxy.port}`);
      expect(conditions[0]?.fix).toContain(`Nothing listens at ${proxy.host}:${proxy.port}`);
    },
    { withinMs: 15_000 },
  );
  await proxy.resume();
  await pipeline.settled();
  await eventually(async () => expect((await installation.status()).conditions).toEqual([]));
  expect((await pipeline.daemon.stop()).exitCode).toBe(0);

  const wrong = { kind: "postgres", url: `${state.url}?sslmode=verify-full` };
  await using other = new Installation({
    name: "other",
    source: { kind: "postgres", url: pipeline.source.url },
    sinks: { right: pipeline.sinks.config["sqlite"], wrong },
  });
  // A file that is missing may come: the daemon waits, and says so itself.
  other.run();
  await eventually(async () => {
    const { daemon, conditions } = await other.status();
    expect(daemon).not.toBeNull();
    expect(conditions).toMatchObject([{ kind: "sink.failing", sink: "wrong" }, { kind: "daemon.starting" }]);
    expect(conditions[0]?.message).toMatch(/^sink wrong: the sink's url can't be used: sslmode=verify-full needs/);
  });
});

test("a stop that is ordered while a start waits for the state is in order", async () => {
  await using state = await freshDatabase();
  await using proxy = await tcpProxy(state.url);
  proxy.stall();
  await using pipeline = await RunningPipeline.start(TABLE, {
    kinds: ["sqlite"],
    untilStreaming: false,
    configure: (config) => ({ ...config, state: proxy.url(state.url) }),
  });
  await eventually(() => expect(proxy.counters.accepted).toBeGreaterThan(0), { withinMs: 15_000 });
  expect((await pipeline.daemon.stop()).exitCode).toBe(0);
  await proxy.resume();
  await pipeline.start();
  await pipeline.expectEqual(["orders"]);
});

test("a state that falls silent for longer than its lease lasts: which server, and the webhook is told the end too", async () => {
  await using source = await freshDatabase();
  await using state = await freshDatabase();
  await source.query(TABLE);
  await using silent = await tcpProxy(state.url);
  await using onCall = await OnCall.of({
    name: source.name,
    source: { kind: "postgres", url: source.url, heartbeat: "500ms" },
    state: silent.url(state.url),
    sinks: { replica: { kind: "sqlite", path: "./replica.sqlite" } },
  });
  const daemon = onCall.installation.run();
  await onCall.expectWell();
  silent.stall();
  await source.query("update orders set n = 1");
  // Long before the first call of it fails.
  await onCall.expectWebhook(/^the state does not answer/);
  await onCall.expectWebhook(/^the state can't be written/);
  await expectFirstSaid(onCall.installation, [
    /the state can't be written/,
    literally(`${silent.host}:${silent.port}`),
    /for as long as the lease lasts/,
    literally(`${silent.host}:${silent.port} gave no answer: look whether the server there runs`),
  ]);
  await silent.resume();
  silent.cut();
  await onCall.expectWell();
  expect(daemon.exited).toBe(false);
  // A state that is away can't store what was told: the next process tells the end all the same.
  silent.stall();
  await source.query("update orders set n = 2");
  await onCall.expectWebhook(/^the state does not answer/);
  await daemon.kill();
  await silent.resume();
  silent.cut();
  onCall.installation.run();
  await onCall.expectWell();
});
