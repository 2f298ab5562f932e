/** Daemons are killed while files are made: readers find each change once, and the rows that they leave equal the source. */
import { setTimeout as sleep } from "node:timers/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Load, Victim } from "../support/fault-load.ts";
import { FilesReader } from "../support/files-reader.ts";
import { Random, testSeed } from "../support/random.ts";
import { eventually } from "../support/waiting.ts";

/** Each at a random passage up to that one; the first two are only on a first start. */
const FAILPOINTS: Readonly<Record<string, number>> = {
  "source.created": 1,
  "copy.block-queued": 4,
  "files.fenced": 1,
  "files.before-entry": 8,
  "files.entry-written": 8,
  "files.publication-stored": 2,
  "files.file-written": 4,
  "files.before-manifest": 2,
  "files.manifest-written": 2,
  "files.publication-done": 2,
  "lane.dispatched": 50,
  "sink.applied": 20,
  "ack.computed": 3,
  "ack.stored": 3,
  "refill.chunk-read": 2,
  "refill.chunk-durable": 2,
  "refill.swept": 2,
};
const KILLED_WITHIN_MS = 60_000;

test("killed at every failpoint, each change is in the files once", async () => {
  const random = new Random(testSeed());
  await using load = await Load.create(random.seed, 300);
  await using victim = await Victim.create(load, "files", ["files"]);
  load.start(80);
  for (const [name, countMax] of Object.entries(FAILPOINTS)) {
    const entry = `${name}=kill@${1 + random.below(countMax)}`;
    const daemon = victim.run({ MILLRACE_FAILPOINTS: entry });
    const deadline = performance.now() + KILLED_WITHIN_MS;
    while (!daemon.exited && performance.now() < deadline) {
      if (name.startsWith("refill.")) {
        const tables = [`public.${random.pick(load.tables)}`];
        await victim.installation.ask("POST", "/api/v1/snapshots", { tables }).catch(() => undefined);
      }
      await Promise.race([daemon.ended, sleep(500)]);
    }
    expect({ entry, exited: daemon.exited }, daemon.said.slice(-2_000)).toEqual({ entry, exited: true });
    const { signal, stderr } = await daemon.ended;
    expect({ entry, signal }, stderr.slice(-2_000)).toEqual({ entry, signal: "SIGKILL" });
  }
  const last = victim.run();
  await last.streaming();
  const until = load.workload.transactionCount + 50;
  await eventually(() => load.workload.transactionCount >= until, { withinMs: 60_000 });
  await load.stop();
  const { faults } = await victim.verdict(last);
  expect(faults).toEqual([]);
  const reader = new FilesReader(join(victim.installation.folder, "changes"));
  expect(await reader.repeated()).toEqual([]);
});
