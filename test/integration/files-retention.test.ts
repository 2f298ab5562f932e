/** A files sink with `keep`: what is older goes, with its manifests, and the rest of what readers find stays as it is. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import * as z from "zod";
import { FilesSink } from "../../connectors/files/sink.ts";
import { FolderStore } from "../../connectors/files/store/folder.ts";
import { systemClock } from "../../src/core/clock.ts";
import { put, Reports, rowsStep, timeout } from "../conformance/stage.ts";
import { tableVersion } from "../support/blocks.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** After the commits of the steps. */
const START_MS = Date.UTC(2026, 10, 20);

const users = tableVersion({
  table: "users",
  columns: [
    ["id", "int4"],
    ["name", "text"],
  ],
  key: ["id"],
});

const MANIFEST = z.looseObject({ madeMs: z.number(), files: z.array(z.looseObject({ path: z.string() })) });

function manifestIn(path: string): z.infer<typeof MANIFEST> {
  return MANIFEST.parse(JSON.parse(readFileSync(path, "utf8")));
}

interface Sample {
  readonly sink: FilesSink;
  /** A step that becomes a file at once. */
  readonly write: (at: bigint, nowMs: number) => Promise<void>;
  /** The manifests that are there, and whether just their files are. */
  readonly found: () => { readonly manifests: readonly number[]; readonly areFilesThese: boolean };
}

async function sample(path: string, lease: number, keepMs: number | null = DAY_MS): Promise<Sample> {
  let nowMs = START_MS;
  const settings = {
    name: "bronze",
    format: "ndjson",
    roll: { rows: 1, bytes: 1_000_000, ageMs: HOUR_MS },
    keepMs,
    memoryLimit: "64MB",
    store: async () => new FolderStore(path),
  } as const;
  const sink = new FilesSink(settings, { ...systemClock, now: () => nowMs });
  await sink.open(lease, timeout());
  return {
    sink,
    write: async (at, now) => {
      nowMs = now;
      const step = { ...rowsStep(at, [users, [put([String(at), "a"])]]), order: Uint16Array.of(0) };
      await sink.apply(step, new Reports(), timeout());
    },
    found: () => {
      const folder = join(path, "_millrace/manifests");
      const names = readdirSync(folder).toSorted();
      const listed = names.flatMap((name) => manifestIn(join(folder, name)).files.map((file) => file.path));
      const all = readdirSync(path, { recursive: true, encoding: "utf8" });
      const there = all.filter((name) => name.endsWith(".ndjson") && !name.startsWith("_"));
      return {
        manifests: names.map((name) => Number.parseInt(name, 10)),
        areFilesThese: there.toSorted().join() === listed.toSorted().join(),
      };
    },
  };
}

test("files go when they are older than `keep`, each with its manifest, and the newest manifest stays", async () => {
  using folder = temporaryFolder();
  const { sink, write, found } = await sample(folder.path, 1);
  for (let hour = 0; hour < 24; hour += 6) await write(BigInt(100 + hour), START_MS + hour * HOUR_MS);
  expect(found()).toEqual({ manifests: [1, 2, 3, 4], areFilesThese: true });
  await write(200n, START_MS + 30 * HOUR_MS);
  expect(found()).toEqual({ manifests: [3, 4, 5], areFilesThese: true });
  await write(300n, START_MS + 100 * DAY_MS);
  expect(found()).toEqual({ manifests: [6], areFilesThese: true });
  await sink.close();
  // The numbers go on, although the log begins again.
  rmSync(join(folder.path, "_millrace/log"), { recursive: true });
  const again = await sample(folder.path, 2);
  await again.write(400n, START_MS + 100 * DAY_MS);
  expect(again.found()).toEqual({ manifests: [6, 7], areFilesThese: true });
  await again.sink.close();
});

test("what a killed process has half removed, and manifests of earlier versions, go too", async () => {
  using folder = temporaryFolder();
  const kept = await sample(folder.path, 1, null);
  for (let i = 0; i < 3; i++) await kept.write(BigInt(100 + i), START_MS + i);
  await kept.write(200n, START_MS + 100 * DAY_MS);
  expect(kept.found()).toEqual({ manifests: [1, 2, 3, 4], areFilesThese: true });
  await kept.sink.close();
  const manifest = (number: number): string =>
    join(folder.path, `_millrace/manifests/${String(number).padStart(12, "0")}.json`);
  rmSync(join(folder.path, manifestIn(manifest(1)).files[0]!.path));
  const { madeMs, ...former } = manifestIn(manifest(2));
  expect(madeMs).toBe(START_MS + 1);
  writeFileSync(manifest(2), JSON.stringify(former));
  const { sink, write, found } = await sample(folder.path, 2);
  await write(300n, START_MS + 100 * DAY_MS);
  expect(found()).toEqual({ manifests: [4, 5], areFilesThese: true });
  await sink.close();
});
