/**
 * Sinks that keep changes are taken out of the configuration and put back: their readers end up with the source's rows, and
 * the daemon names what they lack.
 */
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";
import { change, PREPARE, restartWith, sinkOf, start, TABLES } from "../../support/faults/sink-loss.ts";

const KEPT = { files: "lost to its readers", "postgres-history": "lost to its history" } as const;

test("what passes while a table is suspended or paused is lost to streams and histories, and each of it is named", async () => {
  const tables = ["public.kept", "public.moving"];
  await using pipeline = await RunningPipeline.start(PREPARE, { kinds: ["postgres", "files", "postgres-history"] });
  const { installation } = pipeline;
  const lost = async () => {
    const { conditions } = await installation.status();
    const told = conditions.filter(({ kind }) => kind === "sink.lost-changes");
    return new Map(told.map(({ sink, what }) => [sink, tables.filter((table) => what.includes(table))]));
  };
  await change(pipeline, "at first");
  await pipeline.settled();
  expect(await lost()).toEqual(new Map());
  await pipeline.run("alter table kept drop constraint kept_pkey");
  await pipeline.run("insert into kept values (1000, 'unseen')");
  await eventually(async () =>
    expect((await installation.status()).tables.suspended).toMatchObject([{ table: tables[0] }]),
  );
  await pipeline.run("alter table kept add primary key (id); update kept set body = 'seen' where id = 1000");
  await pipeline.expectEqual(TABLES);
  expect(await lost()).toEqual(
    new Map([
      ["files", [tables[0]]],
      ["postgres-history", [tables[0]]],
    ]),
  );
  expect(await installation.command("pause", "--sink", "files", "--tables", tables[1]!)).toMatchObject({ exitCode: 0 });
  await change(pipeline, "while it is paused");
  await eventually(async () => expect((await lost()).get("files")).toEqual(tables));
  expect(await installation.command("resume", "--sink", "files", "--tables", tables[1]!)).toMatchObject({
    exitCode: 0,
  });
  await pipeline.expectEqual(TABLES);
  expect(await installation.command("resume")).toMatchObject({ exitCode: 0 });
  await eventually(async () => expect(await lost()).toEqual(new Map()));
  // Paused and resumed by commands that find no daemon, with nothing in between.
  await pipeline.daemon.stop();
  for (const verb of ["pause", "resume"])
    expect(await installation.command(verb, "--sink", "files", "--tables", tables[1]!)).toMatchObject({ exitCode: 0 });
  await start(pipeline);
  await change(pipeline, "at last");
  await pipeline.expectEqual(TABLES);
  expect(await lost()).toEqual(new Map());
});

test("taken out and put back, a stream and a history equal the source, and what they lost is named", async () => {
  await using pipeline = await RunningPipeline.start(PREPARE, {
    kinds: ["postgres", "postgres-soft", "files", "postgres-history"],
  });
  const { config: all } = pipeline.sinks;
  await change(pipeline, "at first");
  await pipeline.settled();
  await restartWith(pipeline, { postgres: all["postgres"]!, "postgres-soft": all["postgres-soft"]! });
  await change(pipeline, "while they were out");
  await pipeline.run("delete from kept where id < 10");
  await pipeline.settled();
  expect(pipeline.daemon.said).not.toContain("the changes in between are lost");
  await restartWith(pipeline, all);
  await change(pipeline, "since they are back");
  await pipeline.expectEqual(TABLES);
  for (const [name, lost] of Object.entries(KEPT)) {
    const lines = pipeline.daemon.said.split("\n").filter((line) => line.includes(lost));
    expect(lines.map((line) => line.includes(`"${name}"`))).toEqual([true]);
  }
  for (const kind of ["files", "postgres-history"] as const)
    expect(await sinkOf(pipeline, kind)).toMatchObject({ state: "streaming", error: null });

  const told = async () => {
    const { conditions } = await pipeline.installation.status();
    return conditions.filter(({ kind }) => kind === "sink.lost-changes");
  };
  const notices = Object.entries(KEPT).map(([sink, what]) => ({
    sink,
    level: "act",
    what: expect.stringContaining(what),
  }));
  expect((await told()).toSorted((a, b) => (a.sink! < b.sink! ? -1 : 1))).toMatchObject(notices);
  // Until somebody says so, whether a daemon runs or not.
  await pipeline.daemon.stop();
  expect(await told()).toHaveLength(2);
  await start(pipeline);
  await eventually(async () => expect(await told()).toHaveLength(2));
  expect(await pipeline.installation.command("resume", "--sink", "files")).toMatchObject({ exitCode: 0 });
  await eventually(async () => expect((await told()).map(({ sink }) => sink)).toEqual(["postgres-history"]));
  await pipeline.daemon.stop();
  await pipeline.installation.command("resume");
  expect(await told()).toEqual([]);
});

test("a table that a sink's `tables` leave out and take in again lost what passed to streams and histories, and that is named", async () => {
  await using pipeline = await RunningPipeline.start(PREPARE, { kinds: ["postgres", "files", "postgres-history"] });
  const { installation, sinks } = pipeline;
  const told = async () => {
    const { conditions } = await installation.status();
    return conditions.filter(({ kind }) => kind === "sink.lost-changes").map(({ sink, what }) => [sink, what] as const);
  };
  const without = Object.entries(sinks.config).map(([name, sink]) => [name, { ...sink, tables: ["public.kept"] }]);
  await change(pipeline, "at first");
  await pipeline.settled();
  for (const config of [Object.fromEntries(without), Object.fromEntries(without)]) {
    await restartWith(pipeline, config);
    await change(pipeline, "while it is out");
    await pipeline.settled();
    expect(await told()).toEqual([]);
  }
  await restartWith(pipeline, sinks.config);
  await pipeline.expectEqual(TABLES);
  const what = expect.stringMatching(/changes of public\.moving passed by, which its `tables` left out/);
  expect(new Map(await told())).toEqual(
    new Map([
      ["files", what],
      ["postgres-history", what],
    ]),
  );
});
