import * as z from "zod";
import { parsePosition, rowVersion } from "../../../src/core/model/position.ts";
import type { EntryCheckpoint, Head, Shape } from "../log/entry.ts";
import { filesError } from "../errors.ts";
import { manifestKey } from "../names.ts";
import type { Store } from "../store/store.ts";
import { fileColumns } from "./columns.ts";

export interface PublishedFile {
  readonly path: string;
  readonly shape: Shape;
  readonly date: string;
  readonly rows: number;
  readonly bytes: number;
  readonly from: string;
  readonly until: string;
}

export interface ManifestHead {
  readonly manifest: Head["manifest"];
  /** The number of the manifest before it; 0: it is the first. */
  readonly previous: number;
  /** The highest `_millrace_sequence` in the files of this manifest and those before it. */
  readonly lastSequence: number;
  readonly checkpoint: EntryCheckpoint;
  /** When it was made, by this machine's clock. */
  readonly madeMs: number;
}

/** What the newest manifest says. */
export interface Published {
  readonly number: number;
  readonly ordinal: number;
  readonly lastSequence: number;
}

export const NO_MANIFEST: Head["manifest"] = { number: 0, ordinal: 0 };

const HEAD = z.looseObject({
  ordinal: z.int(),
  previous: z.int(),
  lastSequence: z.int(),
  position: z.string(),
  files: z.array(z.looseObject({ path: z.string(), table: z.string() })),
  lost: z.union([z.array(z.looseObject({ table: z.string() })), z.literal("all")]).optional(),
});
export type Manifest = z.infer<typeof HEAD>;

/** Null also for what no reader can read. */
export async function readManifest(store: Store, number: number, signal: AbortSignal): Promise<Manifest | null> {
  const bytes = await store.read(manifestKey(number), signal);
  try {
    return HEAD.safeParse(JSON.parse(bytes?.toString("utf8") ?? "null")).data ?? null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

/** Ids of the tables of which it lacks files. */
export function lostTables(manifest: Manifest | null): readonly string[] {
  return Array.isArray(manifest?.lost) ? [...new Set(manifest.lost.map(({ table }) => table))] : [];
}

/** Of a manifest, for a log that begins behind it. */
export async function readHead(store: Store, number: number, signal: AbortSignal): Promise<Published> {
  const found = await readManifest(store, number, signal);
  if (found === null) throw filesError("MR3202", "fatal", `${manifestKey(number)} is not a manifest of Millrace's`);
  return { number, ordinal: found.ordinal, lastSequence: found.lastSequence };
}

/**
 * A set of files that belong together: who reads the files of all manifests up to one sees each change before its position
 * once, of all tables. Fields are added, never changed.
 */
export function manifestBytes(
  { manifest, previous, lastSequence, checkpoint: { position }, madeMs }: ManifestHead,
  { files, lost }: { readonly files: readonly PublishedFile[]; readonly lost: readonly PublishedFile[] },
  format: "ndjson" | "parquet",
): Buffer {
  const told = ({ shape, ...file }: PublishedFile): object => ({
    ...file,
    table: shape.id,
    schema: shape.schema,
    name: shape.table,
    fingerprint: shape.fingerprint,
    key: shape.key.map((c) => columnsOf(shape, format)[c]!.name),
    columns: columnsOf(shape, format),
  });
  const value = {
    manifest: manifest.number,
    ordinal: manifest.ordinal,
    previous,
    lastSequence,
    format,
    madeMs,
    position,
    wholeBelow: wholeBelow(position),
    files: files.map(told),
    ...(lost.length === 0 ? {} : { lost: lost.map(told) }),
  };
  return Buffer.from(`${JSON.stringify(value)}\n`);
}

function columnsOf(shape: Shape, format: "ndjson" | "parquet"): readonly { name: string; type: string }[] {
  if (format === "parquet") return fileColumns(shape).map(({ name, type }) => ({ name, type }));
  return shape.columns.map(({ name, type }) => ({ name, type: type.kind }));
}

/** Of all changes in the files up to this manifest. */
export async function highestVersion(store: Store, number: number, signal: AbortSignal): Promise<bigint> {
  const { position = "" } = (await readManifest(store, number, signal)) ?? {};
  return BigInt(wholeBelow(position));
}

/** Transactions with a lower version are complete in the files. */
function wholeBelow(position: string): string {
  if (position === "") return "0";
  const { epoch, commit } = parsePosition(position);
  return String(rowVersion(epoch, commit));
}
