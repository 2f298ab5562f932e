/**
 * `state: postgres://…`: the same daemon, its state on a server.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { freshDatabase } from "../../support/run/services.ts";

const TABLE =
  "create table orders (id int primary key, n int); insert into orders select g, 0 from generate_series(1, 200) g";

test(
  "killed again and again under load the daemon goes on, and the sinks equal the source",
  { tags: "long" },
  async () => {
    // test/fault/kill/random has it, and integration/state each of the state's promises on Postgres.
    await using state = await freshDatabase();
    await using pipeline = await RunningPipeline.start(TABLE, {
      kinds: ["postgres", "duckdb"],
      configure: (config) => ({ ...config, state: state.url }),
    });
    let id = 1000;
    for (const at of ["ack.stored", "sink.applied", "ack.computed"]) {
      await pipeline.kill();
      pipeline.daemon = pipeline.installation.run({ MILLRACE_FAILPOINTS: `${at}=kill@2` });
      while (!pipeline.daemon.exited) {
        id++;
        await pipeline.run(
          `update orders set n = n + 1 where id % 7 = ${id % 7}; insert into orders values (${id}, 1)`,
        );
      }
      expect((await pipeline.daemon.ended).signal).toBe("SIGKILL");
    }
    await pipeline.start();
    await pipeline.expectEqual(["orders"]);
    const copies = await state.query<{ count: number }>(
      "select count(*)::int as count from millrace.state_row where relation = 'snapshot'",
    );
    expect(copies.rows[0]!.count, "nothing had to be read again").toBe(0);
  },
);

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
