/**
 * The file, one JSON document per line:
 *
 *   {"lease":3,"position":"1/4711/0","tables":"{…}","bond":"…"}
 *   {"table":"public.users","shape":{…}}
 *   {"table":"public.users","id":"42","version":"36028797046404048","row":{"id":42,"name":"Ann"}}
 *
 * A write replaces the whole file in one rename, so rows and checkpoint become durable together or not at all.
 */
import { open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import * as z from "zod";
import type { ShapeNote } from "../../src/core/targets/base-rows.ts";
import { JsonFields } from "../../src/core/targets/json-fields.ts";
import { classify, notOurs } from "./errors.ts";

const HEAD = z.object({ lease: z.int(), position: z.string(), tables: z.string(), bond: z.string() });
const SHAPE = z.object({
  relation: z.number(),
  key: z.array(z.tuple([z.string(), z.number()])),
  columns: z.array(z.tuple([z.string(), z.number(), z.string()])),
});
const TABLE = z.object({ table: z.string(), shape: SHAPE });
const ROW = z.object({ table: z.string(), id: z.string(), version: z.string() });

export interface Contents {
  lease: number;
  /** "" before the first batch. */
  position: string;
  /** The texts of `checkpointTexts`. */
  tables: string;
  bond: string;
  readonly held: Map<string, HeldTable>;
}

export interface HeldTable {
  readonly shape: ShapeNote;
  /** By row id. */
  readonly rows: Map<string, HeldRow>;
}

export interface HeldRow {
  readonly version: bigint;
  /** The row as JSON text. It is never parsed: a number keeps all of its digits. */
  readonly json: string;
}

/** Null: there is no file, or an empty one. */
export async function readContents(path: string): Promise<Contents | null> {
  const bytes = await readFile(path).catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw classify(error, path);
  });
  if (bytes === null || bytes.length === 0) return null;
  try {
    return parse(bytes);
  } catch (error) {
    throw notOurs(path, error);
  }
}

export async function writeContents(path: string, contents: Contents): Promise<void> {
  const beside = `${path}.new`;
  try {
    const file = await open(beside, "w", 0o600);
    try {
      await file.writeFile(textOf(contents));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(beside, path);
    // The rename itself is durable once the folder is.
    const folder = await open(dirname(path), "r");
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  } catch (error) {
    throw classify(error, path);
  }
}

function parse(bytes: Buffer): Contents {
  const [head, ...others] = linesOf(bytes);
  const contents: Contents = { ...HEAD.parse(JSON.parse(String(head))), held: new Map() };
  const fields = new JsonFields(["row"]);
  for (const line of others) {
    fields.read(line);
    if (!fields.has(0)) {
      const { table, shape } = TABLE.parse(JSON.parse(String(line)));
      contents.held.set(table, { shape, rows: new Map() });
      continue;
    }
    const { table, id, version } = ROW.parse(JSON.parse(String(line)));
    const json = line.toString("utf8", fields.start[0], fields.end[0]);
    contents.held.get(table)!.rows.set(id, { version: BigInt(version), json });
  }
  return contents;
}

function* linesOf(bytes: Buffer): Generator<Buffer> {
  for (let from = 0; from < bytes.length;) {
    const end = bytes.indexOf("\n", from);
    yield bytes.subarray(from, end === -1 ? bytes.length : end);
    from = end === -1 ? bytes.length : end + 1;
  }
}

function textOf({ lease, position, tables, bond, held }: Contents): string {
  const lines = [JSON.stringify({ lease, position, tables, bond })];
  for (const [table, { shape, rows }] of held) {
    const name = JSON.stringify(table);
    lines.push(`{"table":${name},"shape":${JSON.stringify(shape)}}`);
    for (const [id, { version, json }] of rows)
      lines.push(`{"table":${name},"id":${JSON.stringify(id)},"version":"${version}","row":${json}}`);
  }
  return `${lines.join("\n")}\n`;
}
