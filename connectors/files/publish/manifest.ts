import * as z from "zod";
import { parsePosition } from "../../../src/core/model/position.ts";
import { rowVersion } from "../../../src/core/model/version.ts";
import type { Checkpoint, Shape } from "../log/entry.ts";
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
  readonly manifest: number;
  /** The number of the last entry of the log whose changes are in the files. */
  readonly lastEntry: number;
  readonly checkpoint: Checkpoint;
  /** When it was made, by this machine's clock. */
  readonly madeMs: number;
}

const LAST_ENTRY = z.object({ lastEntry: z.int() });

/** Of a manifest, for a log that begins behind it. */
export async function lastEntryOf(store: Store, manifest: number, signal: AbortSignal): Promise<number> {
  const bytes = await store.read(manifestKey(manifest), signal);
  const found = LAST_ENTRY.safeParse(JSON.parse(bytes?.toString("utf8") ?? "null"));
  if (!found.success) throw filesError("MR4204", "fatal", `${manifestKey(manifest)} is not a manifest of Millrace's`);
  return found.data.lastEntry;
}

/**
 * A set of files that belong together: who reads the files of all manifests up to one sees each change before its position
 * once, of all tables. Fields are added, never changed.
 */
export function manifestBytes(
  { manifest, lastEntry, checkpoint: { position }, madeMs }: ManifestHead,
  files: readonly PublishedFile[],
  format: "ndjson" | "parquet",
): Buffer {
  const value = {
    manifest,
    lastEntry,
    format,
    madeMs,
    position,
    wholeBelow: wholeBelow(position),
    files: files.map(({ shape, ...file }) => ({
      ...file,
      table: shape.id,
      schema: shape.schema,
      name: shape.table,
      fingerprint: shape.fingerprint,
      key: shape.key.map((c) => columnsOf(shape, format)[c]!.name),
      columns: columnsOf(shape, format),
    })),
  };
  return Buffer.from(`${JSON.stringify(value)}\n`);
}

function columnsOf(shape: Shape, format: "ndjson" | "parquet"): readonly { name: string; type: string }[] {
  if (format === "parquet") return fileColumns(shape).map(({ name, type }) => ({ name, type }));
  return shape.columns.map(({ name, type }) => ({ name, type: type.kind }));
}

/** Transactions with a lower version are complete in the files. */
function wholeBelow(position: string): string {
  if (position === "") return "0";
  const { epoch, commit } = parsePosition(position);
  return String(rowVersion(epoch, commit));
}
