/** A files sink of which each batch is a file, and what readers of its folder find. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import { FilesSink } from "../../../connectors/files/sink.ts";
import type { Store } from "../../../connectors/files/store/store.ts";
import { systemClock } from "../../../src/core/clock.ts";
import { put, Reports, rowsBatch, timeout } from "../../conformance/stage.ts";
import { tableVersion } from "../model/blocks.ts";

export const HOUR_MS = 3_600_000;
export const DAY_MS = 24 * HOUR_MS;
/** After the commits of the batches. */
export const START_MS = Date.UTC(2026, 10, 20);

export const fileUsers = tableVersion({ table: "users", columns: { id: "int4", name: "text" } });

/** A row that is written. */
export const userBatch = (at: bigint, id: string) => ({
  ...rowsBatch(at, [fileUsers, [put([id, "a"])]]),
  order: Uint16Array.of(0),
});

export interface FilesSample {
  readonly sink: FilesSink;
  readonly write: (at: bigint, nowMs: number) => Promise<void>;
}

/** `keepMs`: null keeps all. */
export async function filesSample(
  store: () => Promise<Store>,
  lease: number,
  keepMs: number | null = DAY_MS,
): Promise<FilesSample> {
  let nowMs = START_MS;
  const roll = { rows: 1, bytes: 1_000_000, ageMs: HOUR_MS };
  const settings = {
    daemon: "shop",
    name: "bronze",
    format: "ndjson",
    roll,
    keepMs,
    memoryLimit: "64MB",
    store,
  } as const;
  const sink = new FilesSink(settings, { ...systemClock, now: () => nowMs });
  await sink.open(lease, timeout());
  return {
    sink,
    write: async (at, now) => {
      nowMs = now;
      await sink.apply(userBatch(at, String(at)), new Reports(), timeout());
    },
  };
}

const MANIFEST = z.looseObject({
  ordinal: z.number(),
  madeMs: z.number(),
  files: z.array(z.looseObject({ path: z.string() })),
});

/** Of the folder of a sink, in their order. */
export function manifestPaths(folder: string): readonly string[] {
  const under = join(folder, "_millrace/manifests");
  return readdirSync(under)
    .toSorted()
    .map((name) => join(under, name));
}

export function manifestIn(path: string): z.infer<typeof MANIFEST> {
  return MANIFEST.parse(JSON.parse(readFileSync(path, "utf8")));
}

/** The ordinals of this folder's manifests, and whether just their files are there. */
export function foundIn(
  path: string,
  format = "ndjson",
): { readonly manifests: readonly number[]; readonly areFilesThese: boolean } {
  const manifests = manifestPaths(path).map(manifestIn);
  const listed = manifests.flatMap(({ files }) => files.map((file) => file.path));
  const all = readdirSync(path, { recursive: true, encoding: "utf8" });
  const there = all.filter((name) => name.endsWith(`.${format}`) && !name.startsWith("_"));
  return {
    manifests: manifests.map(({ ordinal }) => ordinal),
    areFilesThese: there.toSorted().join() === listed.toSorted().join(),
  };
}
