import { parsePosition } from "../../../src/core/model/position.ts";
import { rowVersion } from "../../../src/core/model/version.ts";
import type { Checkpoint, Shape } from "../log/entry.ts";
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

/**
 * A set of files that belong together: who reads the files of all manifests up to one sees each change before its position
 * once, of all tables. Fields are added, never changed.
 */
export function manifestBytes(
  manifest: number,
  { position }: Checkpoint,
  files: readonly PublishedFile[],
  format: "ndjson" | "parquet",
): Buffer {
  const value = {
    manifest,
    format,
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
