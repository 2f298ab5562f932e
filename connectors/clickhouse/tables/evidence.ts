/**
 * What shows that a table still is the one that this sink wrote, with its rows. The server numbers the blocks of rows
 * that a table takes, and never gives a number again. Merges and mutations keep the numbers, and this sink removes no row:
 * if a number is gone, so are its rows. Another daemon that writes there removes rows of its own tables.
 */
import type { Client } from "../client.ts";
import { quoteLiteral, RUN_PREFIX, sqlNameOf, type TargetName } from "../names.ts";
import { isReplicated } from "./existing.ts";

/** First and last number of blocks that follow each other. */
export type Blocks = readonly (readonly [from: bigint, to: bigint])[];

export interface Evidence {
  /** `ANY_UUID` until the sink has seen the copy that it puts in the table's place. */
  readonly uuid: string;
  /**
   * "some": only an empty table shows that rows are gone. Replicas number blocks in their own way, and one may lag behind; other
   * daemons remove rows.
   */
  readonly rows: Blocks | "some";
}

export interface Facts extends Evidence {
  /** When its definition changed last, in whole seconds. "": so lately that it may change again in the same second. */
  readonly defined: string;
  /** Somebody gave it a TTL, so that rows go by themselves. */
  readonly expires: boolean;
  readonly isReplicated: boolean;
}

export type Loss = "dropped, renamed or replaced" | "emptied" | "stripped of rows";

/** Of a table with more gaps, the first ones are stored. */
const RANGES_STORED_MAX = 100;

const ANY_UUID = "";

/** What is known of a table whose place a copy of it takes: the statement may get no answer. */
export const MADE_AGAIN: Evidence = { uuid: ANY_UUID, rows: [] };

export function isSameTable(before: Evidence, now: Evidence): boolean {
  return before.uuid === ANY_UUID || before.uuid === now.uuid;
}

export function lossOf(before: Evidence, now: Facts | undefined): Loss | null {
  if (now === undefined || !isSameTable(before, now)) return "dropped, renamed or replaced";
  if (now.expires || before.rows.length === 0) return null;
  if (now.rows.length === 0) return "emptied";
  const [written, left] = [before.rows, now.rows];
  if (written === "some" || left === "some") return null;
  return written.every((range) => isCovered(range, left)) ? null : "stripped of rows";
}

function isCovered([from, to]: Blocks[number], rows: Blocks): boolean {
  return rows.some((range) => range[0] <= from && to <= range[1]);
}

export function rowsText(rows: Evidence["rows"]): string {
  if (rows === "some") return rows;
  return rows
    .slice(0, RANGES_STORED_MAX)
    .map(([from, to]) => `${from}-${to}`)
    .join(" ");
}

export function parseRows(text: string): Evidence["rows"] {
  if (text === "some") return "some";
  return text.split(" ").flatMap((range) => {
    const [, from, to] = /^(\d+)-(\d+)$/.exec(range) ?? [];
    return from === undefined || to === undefined ? [] : [[BigInt(from), BigInt(to)] as const];
  });
}

/** A query of all tables in these databases is shorter than one of more names. */
const NAMES_MAX = 500;

/** How many daemons write to a table: each has a column of its run there, with eight digits of its own in the name. */
const WRITERS = `length(arrayDistinct(extractAll(create_table_query, '${RUN_PREFIX}([0-9a-f]{8})_')))`;

/** By `sqlNameOf`; others may be among them. */
export async function lookUpFacts(
  client: Client,
  targets: readonly TargetName[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, Facts>> {
  const listed = (names: readonly string[]): string => [...new Set(names)].map(quoteLiteral).join(", ");
  const databases = listed(targets.map(({ database }) => database));
  if (databases === "") return new Map();
  const names = targets.length > NAMES_MAX ? null : listed(targets.map(({ table }) => table));
  const where = (column: string): string =>
    `database IN (${databases})${names === null ? "" : ` AND ${column} IN (${names})`}`;
  const blocks = await lookUpBlocks(client, where("table"), signal);
  const tables = await client.rows(
    "SELECT database, name, toString(uuid), if(metadata_modification_time < now() - 1, toString(metadata_modification_time), ''), " +
      `total_rows > 0, position(engine_full, ' TTL ') > 0, engine, ${WRITERS} > 1 FROM system.tables ` +
      `WHERE ${where("name")} AND engine LIKE '%MergeTree'`,
    signal,
  );
  return new Map(
    tables.map(([database, table, uuid, defined, hasRows, expires, engine, isOfMany]) => {
      const name = sqlNameOf({ database: database ?? "", table: table ?? "" });
      const some = hasRows === "1" ? "some" : [];
      const rows = isReplicated(engine) || isOfMany === "1" ? some : (blocks.get(name) ?? []);
      return [
        name,
        {
          uuid: uuid ?? "",
          defined: defined ?? "",
          expires: expires === "1",
          rows,
          isReplicated: isReplicated(engine),
        },
      ];
    }),
  );
}

/** A part without rows may be what a TRUNCATE leaves for a while. */
async function lookUpBlocks(client: Client, where: string, signal: AbortSignal): Promise<ReadonlyMap<string, Blocks>> {
  const parts = await client.rows(
    "SELECT database, table, min_block_number, max_block_number FROM system.parts " +
      `WHERE ${where} AND active AND rows > 0 ORDER BY database, table, min_block_number`,
    signal,
  );
  const found = new Map<string, (readonly [bigint, bigint])[]>();
  for (const [database, table, min, max] of parts) {
    const name = sqlNameOf({ database: database ?? "", table: table ?? "" });
    const ranges = found.get(name) ?? [];
    found.set(name, ranges);
    const [from, to] = [BigInt(min ?? 0), BigInt(max ?? 0)];
    const last = ranges.at(-1);
    if (last !== undefined && from <= last[1] + 1n) ranges[ranges.length - 1] = [last[0], to > last[1] ? to : last[1]];
    else ranges.push([from, to]);
  }
  return found;
}
