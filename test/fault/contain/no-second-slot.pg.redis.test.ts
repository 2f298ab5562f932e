/**
 * No slot, or no WAL sender, is left for a sink that lies behind: the one stream goes back for it, the others wait, and
 * `status` says so. Where one becomes free in time nobody waits.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { allStream, DetachScene, sinkOf } from "../../support/faults/detach-scene.ts";
import type { SinkKind } from "../../support/daemon/sink-set.ts";
import { endReaders, giveSlotsBack, takeSlots } from "../../support/faults/slots.ts";

const KINDS: readonly SinkKind[] = ["postgres", "redis", "duckdb"];
const REFUSED = "MR2030";

test.concurrent(
  "no slot is left: the stream goes back, the others wait and status says for whom; killed in between too",
  { tags: "long" },
  async () => {
    await using scene = await DetachScene.create(KINDS, { max_replication_slots: 3 });
    const { source, victim } = scene;
    await takeSlots(source);
    for (const ends of ["lives", "is killed"] as const) {
      await scene.away("redis");
      await scene.bulk(15_000);
      await scene.until((status) => sinkOf(status, "duckdb").lagBytes! < 100_000);
      await scene.back("redis", 4_000_000);
      const refused = await scene.until((status) => sinkOf(status, "redis").error?.code === REFUSED);
      expect(sinkOf(refused, "redis")).toMatchObject({ state: "retrying", catchingUp: true });
      const waiting = await scene.until(({ source: { goneBack } }) => goneBack !== null);
      expect(waiting.source.goneBack).toMatchObject({ sinks: ["redis"], error: { code: REFUSED } });
      expect(sinkOf(waiting, "redis")).toMatchObject({ catchingUp: true, waitsFor: [] });
      expect(sinkOf(waiting, "duckdb")).toMatchObject({ state: "streaming", catchingUp: false, waitsFor: ["redis"] });
      const { stdout } = await victim.installation.command("status");
      expect(stdout).toMatch(
        /the stream went back for redis; the other sinks wait until it is at [\dA-F]+\/[\dA-F]+ again/,
      );
      expect(stdout).toMatch(/streaming, waits for redis/);
      if (ends === "is killed") {
        await scene.kill();
        await scene.daemon.streaming();
      }
      await scene.back("redis");
      const after = await scene.until(allStream);
      expect(after.sinks.flatMap(({ waitsFor }) => waitsFor)).toEqual([]);
    }
    await scene.expectEqual();
  },
);

test.concurrent("two sinks share the way back; one that leaves on it is not waited for", { tags: "long" }, async () => {
  // In the simulation, whose source may refuse a second stream.
  await using scene = await DetachScene.create(KINDS, { max_replication_slots: 3 });
  await takeSlots(scene.source);
  await scene.away("redis");
  await scene.bulk(8_000);
  await scene.away("postgres");
  await scene.bulk(8_000);
  await scene.back("postgres");
  await scene.back("redis", 1_000_000);
  await scene.until(({ source: { goneBack } }) => goneBack?.sinks.includes("redis") === true);
  await scene.away("redis");
  await scene.until((status) => status.source.goneBack === null && sinkOf(status, "duckdb").lagBytes! < 100_000);
  await scene.back("redis");
  await scene.until(allStream);
  await scene.expectEqual();
});

test.concurrent("killed as the stream goes back, all goes on at the next start", { tags: "long" }, async () => {
  await using scene = await DetachScene.create(KINDS, { max_replication_slots: 3 });
  await takeSlots(scene.source);
  await scene.kill({ MILLRACE_FAILPOINTS: "go-back.moved=kill" });
  await scene.daemon.streaming();
  await scene.away("redis");
  await scene.bulk(2_000);
  await scene.back("redis");
  expect((await scene.daemon.ended).signal).toBe("SIGKILL");
  await scene.kill();
  await scene.until(allStream);
  await scene.expectEqual();
});

test.concurrent("a slot becomes free while it is asked for: nobody waits", { tags: "long" }, async () => {
  await using scene = await DetachScene.create(KINDS, { max_replication_slots: 3 });
  await takeSlots(scene.source);
  await scene.away("postgres");
  await scene.back("postgres");
  await scene.until((status) => sinkOf(status, "postgres").error?.code === REFUSED);
  await giveSlotsBack(scene.source);
  const seen: string[] = [];
  await scene.until((status) => {
    if (status.source.goneBack !== null) seen.push(JSON.stringify(status.source.goneBack));
    return allStream(status);
  });
  expect(seen).toEqual([]);
  await scene.expectEqual();
});

test.concurrent("no WAL sender is left but the one of the stream, whose session is ended too", async () => {
  await using scene = await DetachScene.create(KINDS, { max_wal_senders: 1 });
  await scene.away("redis");
  await scene.back("redis");
  await scene.until((status) => sinkOf(status, "redis").error?.code === REFUSED);
  await endReaders(scene.source, "first");
  await scene.until(allStream);
  await scene.expectEqual();
});
