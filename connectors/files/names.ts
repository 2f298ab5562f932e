/**
 * Where things lie below `path`, as keys whose parts are separated by slashes:
 *
 *   public.orders/date=2026-11-20/<from>-<until>-<number>.parquet   files of changes, see `fileKey`
 *   _millrace/manifests/001795665600123.json                        one for each set of files
 *   _millrace/log/001795665600045                                   changes that wait for their files, and the checkpoint
 */
import { createHash } from "node:crypto";
import type { Column, TableVersion } from "../../src/core/model/schema.ts";
import { shortened } from "../../src/core/targets/names.ts";

export const LOG = "_millrace/log/";
export const MANIFESTS = "_millrace/manifests/";

const NUMBER_DIGITS = 15;
/** Names of higher numbers would not be in order. */
export const NUMBER_MAX = 10 ** NUMBER_DIGITS - 1;
/** A row's version has up to 19. */
const VERSION_DIGITS = 19;
/** File systems allow 255 for one part of a path. */
const FOLDER_BYTES_MAX = 200;

/** What Millrace adds to the columns of a table. */
export const OWN_COLUMNS = [
  "_millrace_sequence",
  "_millrace_op",
  "_millrace_version",
  "_millrace_offset",
  "_millrace_commit_time",
  "_millrace_transaction",
  "_millrace_unchanged",
  "_millrace_exact",
] as const;

export function logKey(sequence: number): string {
  return `${LOG}${numbered(sequence)}`;
}

export function manifestKey(sequence: number): string {
  return `${MANIFESTS}${numbered(sequence)}.json`;
}

/** Null: the key is of something else. */
export function numberOf(key: string, under: string): number | null {
  const match = /^(\d{15})(\.json)?$/.exec(key.slice(under.length));
  return match === null ? null : Number(match[1]);
}

/** The folder of a table: letters, digits, `_` and `-` of its names stay, other bytes are percent-encoded. */
export function folderOf({ schema, table }: Pick<TableVersion, "schema" | "table">): string {
  const name = `${encoded(schema)}.${encoded(table)}`;
  // Readers skip folders that begin with an underscore.
  return shortened(name.startsWith("_") ? `%5F${name.slice(1)}` : name, FOLDER_BYTES_MAX);
}

interface FileRange {
  readonly from: bigint;
  readonly until: bigint;
  /** UTC, as `YYYY-MM-DD`. */
  readonly date: string;
}

/** `number` tells files apart that begin and end with the same transactions. */
export function fileKey(
  table: Pick<TableVersion, "schema" | "table">,
  { from, until, date }: FileRange,
  number: string,
  extension: string,
): string {
  const range = `${String(from).padStart(VERSION_DIGITS, "0")}-${String(until).padStart(VERSION_DIGITS, "0")}`;
  return `${folderOf(table)}/date=${date}/${range}-${number}.${extension}`;
}

/** `<from>-<until>-<manifest>-<place in it>`. Below `path` there may be other programs' files, and other sinks. */
const FILE = /^[^/]+\/date=\d{4,}-\d\d-\d\d\/\d{19}-\d{19}-(\d+)-\d+\.\w+$/;

/** The number of the manifest that names this file; null: the key is of something else. */
export function manifestOf(key: string): number | null {
  const match = FILE.exec(key);
  return match === null ? null : Number(match[1]);
}

/**
 * Names of the columns in files of a format whose readers ignore case: a name that an earlier column has gets `_` and 8
 * hex digits of its hash.
 */
export function columnNames(columns: readonly Pick<Column, "name">[]): readonly string[] {
  const taken = new Set<string>(OWN_COLUMNS);
  return columns.map(({ name }) => {
    const hash = () => createHash("sha256").update(name).digest("hex").slice(0, 8);
    const chosen = taken.has(name.toLowerCase()) || name === "" ? `${name}_${hash()}` : name;
    taken.add(chosen.toLowerCase());
    return chosen;
  });
}

function numbered(sequence: number): string {
  return String(sequence).padStart(NUMBER_DIGITS, "0");
}

function encoded(name: string): string {
  return name.replaceAll(/[^A-Za-z0-9_-]/gu, (character) =>
    Array.from(Buffer.from(character), (byte) => `%${byte.toString(16).padStart(2, "0").toUpperCase()}`).join(""),
  );
}
