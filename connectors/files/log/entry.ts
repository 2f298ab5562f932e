/**
 * An entry of the log: what one batch wrote. A line of JSON, then the parts that it lists, one after the other. The newest
 * entry is the sink's checkpoint.
 */
import * as z from "zod";
import type { ColumnType } from "../../../src/core/model/types.ts";
import { filesError } from "../errors.ts";

const FORMAT = 1;
const LINE_FEED = 0x0a;

/** Of what Millrace itself wrote there. */
const TYPE = z.custom<ColumnType>((value) => typeof value === "object" && value !== null && "kind" in value);
const COLUMN = z.object({ name: z.string(), type: TYPE });

const SHAPE = z.object({
  /** Id of the table. */
  id: z.string(),
  schema: z.string(),
  table: z.string(),
  fingerprint: z.string(),
  columns: z.array(COLUMN),
  key: z.array(z.int()),
});

const PART = z.object({
  /** Ordinal in `shapes`. */
  shape: z.int(),
  date: z.string(),
  /** Versions of its first and its last change. */
  from: z.string(),
  until: z.string(),
  rows: z.int(),
  bytes: z.int(),
  /** The longest row. */
  rowBytesMax: z.int(),
});

const CHECKPOINT = z.object({
  /** "": there is none. */
  position: z.string(),
  /** The texts of `checkpointTexts`. */
  tables: z.string(),
  bond: z.string(),
});

const WAITING = z.object({ rows: z.int(), bytes: z.int(), sinceMs: z.number() });

/** Both are 0 before the first one. `ordinal`: how many there have been. */
const MANIFEST = z.object({ number: z.int(), ordinal: z.int() });

const HEAD = z.object({
  format: z.literal(FORMAT),
  lease: z.int(),
  /** An entry under a lower lease is by a predecessor of theirs. */
  owner: z.object({ daemon: z.string(), sink: z.string() }),
  /** Names the opening of the sink: it recognises its own entry after a lost answer. */
  writer: z.string(),
  checkpoint: CHECKPOINT,
  /** The first entry whose changes are not in a manifest. */
  since: z.int(),
  /** What is in the entries from there on. */
  waiting: WAITING,
  /** The `_millrace_sequence` of the next change is this, or higher. */
  sequence: z.int(),
  /** All rows that the sink holds complete have come, or will come, with a higher sequence. */
  begun: z.int(),
  /** The newest manifest that is done. */
  manifest: MANIFEST,
  /** The entries up to this one are about to become files, under this number of a manifest; null: they are not. */
  publishing: z.int().nullable(),
  /** True: the newest manifest has a part of a transaction whose other part comes later. */
  partial: z.boolean(),
  /** Ids of tables of which changes are in no file, because their folders took none: until they are prepared again. */
  withheld: z.array(z.string()),
  text: z.enum(["ndjson", "csv"]),
  shapes: z.array(SHAPE),
  parts: z.array(PART),
});

export type Head = Readonly<z.output<typeof HEAD>>;
export type EntryCheckpoint = Readonly<z.output<typeof CHECKPOINT>>;
export type WaitingEntries = Readonly<z.output<typeof WAITING>>;
export type Part = Readonly<z.output<typeof PART>>;
export type Shape = Readonly<z.output<typeof SHAPE>>;
export type RowText = Head["text"];

export const NO_CHECKPOINT: EntryCheckpoint = { position: "", tables: "{}", bond: "" };
export const NOTHING_WAITS: WaitingEntries = { rows: 0, bytes: 0, sinceMs: 0 };

export interface Entry {
  readonly head: Head;
  /** In the order of `head.parts`. */
  readonly parts: readonly Buffer[];
}

export function piecesOfEntry(head: Omit<Head, "format">, parts: readonly Buffer[]): readonly Buffer[] {
  return [Buffer.from(`${JSON.stringify({ format: FORMAT, ...head })}\n`), ...parts];
}

/** `key`: for the message of the error. */
export function parseEntry(bytes: Buffer, key: string): Entry {
  const end = bytes.indexOf(LINE_FEED);
  const head = HEAD.safeParse(jsonOf(bytes.toString("utf8", 0, Math.max(0, end))));
  if (!head.success)
    throw filesError("MR3202", "fatal", `${key} is not an entry of Millrace's log`, { cause: head.error });
  let at = end + 1;
  const parts = head.data.parts.map((part) => bytes.subarray(at, (at += part.bytes)));
  if (at !== bytes.length)
    throw filesError("MR3202", "fatal", `${key} has ${bytes.length} bytes, and should have ${at}`);
  return { head: head.data, parts };
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
