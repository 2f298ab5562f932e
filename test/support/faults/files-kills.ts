/** A daemon that writes files is killed at failpoints under load: what must hold at the end. */
import { expect } from "vitest";
import { Load, Victim } from "./fault-load.ts";
import type { FilesReader } from "../warehouses/files-reader.ts";
import { faultsAfter, killAt } from "./kills.ts";
import { Random, testSeed } from "../run/random.ts";
import type { SinkKind } from "../daemon/sink-set.ts";

const KILLED = { withinMs: 60_000, everyMs: 500 };

/** `failpoints`: each is met at a random passage up to its number. `readerOf`: once the daemon has ended. */
export async function killedAtEach(
  failpoints: Readonly<Record<string, number>>,
  kind: SinkKind,
  readerOf: (victim: Victim) => Promise<FilesReader>,
): Promise<void> {
  const random = new Random(testSeed());
  await using load = await Load.create(random.seed, 300);
  await using victim = await Victim.create(load, "files", [kind]);
  load.start(80);
  for (const [name, countMax] of random.some(Object.entries(failpoints))) {
    const entry = `${name}=kill@${1 + random.below(countMax)}`;
    const readAgain = () =>
      victim.installation
        .ask("POST", "/api/v1/snapshots", { tables: [`public.${random.pick(load.tables)}`] })
        .catch(() => undefined);
    await killAt(victim, entry, { ...KILLED, provoke: name.startsWith("snapshot.") ? readAgain : undefined });
  }
  expect(await faultsAfter(load, victim)).toEqual([]);
  const reader = await readerOf(victim);
  expect(await reader.repeated()).toEqual([]);
}
