/**
 * A standby is the source (Postgres 16 and newer): its slot, its stream and its rows are there, and what has to be written goes
 * to the primary.
 * @module-tag heavy
 */
import { beforeEach, describe, expect, test } from "vitest";
import { StandbyScene } from "../../support/faults/standby-scene.ts";
import { isLeastMode } from "../../support/postgres/least-mode.ts";
import { needsPostgres } from "../../support/run/services.ts";
import type { SinkKind } from "../../support/daemon/sink-set.ts";

const PAUSE_MS = 20;
const KINDS: readonly SinkKind[] = ["postgres", "duckdb", "redis"];

beforeEach((context) => {
  needsPostgres(16, context);
  context.skip(isLeastMode, "a standby takes no roles");
});

describe.concurrent("a standby is the source", () => {
  test("the first copy, a further table, a resync and a comparison, under writers", async () => {
    await using scene = await StandbyScene.set({ seed: 21, kinds: KINDS });
    const { load, victim } = scene;
    load.start(PAUSE_MS);
    const { installation } = victim;
    const checked = await installation.command("check", "--json");
    expect(checked).toMatchObject({ exitCode: 0, stdout: expect.stringContaining("the source is a standby") });
    const daemon = victim.run();
    await daemon.streaming();
    await load.addTable("later");
    await scene.load.workload.written(50);
    expect(await installation.command("snapshot", "start", "--tables", "public.line")).toMatchObject({ exitCode: 0 });
    await scene.load.workload.written(50);
    const compared = await installation.command("reconcile", "--json");
    expect(compared).toMatchObject({ exitCode: 0 });
    await scene.expectEqual(daemon);
  });

  test("it is promoted under the running daemon and a running re-read, while the primary dies", async () => {
    await using scene = await StandbyScene.set({ seed: 22, kinds: KINDS });
    const { pair, load, victim } = scene;
    const daemon = victim.run();
    await daemon.streaming();
    load.start(PAUSE_MS);
    await scene.load.workload.written(100);
    const { installation } = victim;
    expect(await installation.command("snapshot", "start", "--tables", "public.line")).toMatchObject({ exitCode: 0 });
    await pair.losePrimary();
    await pair.promote();
    await scene.load.workload.written(100);
    await load.addTable("later");
    expect(await installation.command("snapshot", "start", "--tables", "public.account")).toMatchObject({
      exitCode: 0,
    });
    await scene.load.workload.written(50);
    await scene.expectEqual(daemon);
    expect(daemon.said).toContain("MR2032");
  });

  test("it is promoted while the daemon is killed, and the former primary lives on", async () => {
    await using scene = await StandbyScene.set({ seed: 23, kinds: KINDS });
    const { pair, load, victim } = scene;
    let daemon = victim.run();
    await daemon.streaming();
    load.start(PAUSE_MS);
    await scene.load.workload.written(100);
    await victim.kill(daemon);
    await scene.load.workload.written(50);
    await pair.leavePrimary();
    await pair.promote();
    await scene.load.workload.written(50);
    daemon = victim.run();
    await daemon.streaming();
    await load.addTable("later");
    await scene.load.workload.written(50);
    await scene.expectEqual(daemon);
  });

  test("without its primary: the first copy, a further table, a resync, a comparison, a kill and the promotion", async () => {
    await using scene = await StandbyScene.set({ seed: 25, kinds: KINDS, hasPrimary: false });
    const { pair, load, victim } = scene;
    const { installation } = victim;
    load.start(PAUSE_MS);
    let daemon = victim.run();
    await scene.firstStart(daemon);
    await load.addTable("later");
    await scene.load.workload.written(50);
    expect(await installation.command("snapshot", "start", "--tables", "public.line")).toMatchObject({ exitCode: 0 });
    await scene.load.workload.written(50);
    // A table that is still being read can't be compared, and a read of a standby may wait for a minute.
    await daemon.settled(120_000);
    const compared = await installation.command("reconcile", "--json");
    expect(compared, compared.stdout + compared.stderr).toMatchObject({ exitCode: 0 });
    await pair.checkpoint();
    await victim.kill(daemon);
    daemon = victim.run();
    await scene.load.workload.written(50);
    await pair.losePrimary();
    await pair.promote();
    await scene.load.workload.written(50);
    expect(await installation.command("snapshot", "start", "--tables", "public.account")).toMatchObject({
      exitCode: 0,
    });
    await scene.expectEqual(daemon);
  });

  test("daemon, standby and primary are killed one after the other", async () => {
    await using scene = await StandbyScene.set({ seed: 24, kinds: KINDS });
    const { pair, load, victim } = scene;
    let daemon = victim.run();
    await daemon.streaming();
    load.start(PAUSE_MS);
    await scene.load.workload.written(60);
    // What the primary keeps for the standby outlives its crash from its next checkpoint on.
    await pair.checkpoint();
    await victim.kill(daemon);
    daemon = victim.run();
    await scene.load.workload.written(60);
    await pair.standby.kill();
    await scene.load.workload.written(60);
    await pair.standby.start();
    await daemon.streaming();
    await scene.load.workload.written(60);
    await pair.primary.kill();
    await victim.kill(daemon);
    daemon = victim.run();
    await pair.primary.start();
    await scene.load.workload.written(60);
    await scene.expectEqual(daemon);
  });
});
