/**
 * For sinks that store rows as they were written (documents, cache keys): which rows may supply values for a change
 * that omits columns. A row that was written under an older shape may have another column under a name, or be another
 * row under another key. It must not supply values until it is written again. For each column this stores the version
 * from which on rows show it under its name.
 */
import * as z from "zod";
import type { TableVersion } from "../model/schema.ts";
import { CELL_UNCHANGED, CellMap } from "../model/tuple.ts";
import type { TableWrites } from "../model/batch.ts";
import { parsePosition, rowVersion } from "../model/position.ts";

const COLUMN_MARK = [z.string(), z.number()] as const;

/** Stored beside the table's rows, as JSON. */
export const SHAPE_NOTE = z.object({
  /** `TableVersion.relation`. */
  relation: z.number(),
  /** Names and identities of the key's columns. */
  key: z.array(z.tuple(COLUMN_MARK)),
  /** The same of all columns, and since when: versions are texts, because they have more digits than a JSON number keeps. */
  columns: z.array(z.tuple([...COLUMN_MARK, z.string().regex(/^\d+$/)])),
});

export type ShapeNote = z.output<typeof SHAPE_NOTE>;
type ColumnMark = ShapeNote["key"][number];

/** Rows of a shape that begins after a checkpoint have this version or a higher one. `position`: "" for none. */
export function versionSince(position: string): bigint {
  if (position === "") return 0n;
  const { epoch, commit } = parsePosition(position);
  return rowVersion(epoch, commit);
}

/**
 * The note for rows of this shape. `noted`: the stored note; null: none, so all existing rows count as good. `since`:
 * the sink's version now; rows of the new shape have this version or a higher one.
 */
export function shapeNote(noted: ShapeNote | null, table: TableVersion, since: bigint): ShapeNote {
  const columns = table.columns.map(({ name, identity }): ColumnMark => [name, identity]);
  const key = table.key.map((ordinal) => columns[ordinal]!);
  const goesOn = noted === null || (noted.relation === table.relation && isSameKey(noted.key, key));
  const before = new Map(noted?.columns.map((column) => [column[0], column]));
  return {
    relation: table.relation,
    key,
    columns: columns.map(([name, identity]) => {
      if (noted === null) return [name, identity, "0"];
      const there = goesOn ? before.get(name) : undefined;
      return there?.[1] === identity ? there : [name, identity, String(since)];
    }),
  };
}

/** If only a key column was renamed, the rows keep their keys. */
function isSameKey(a: readonly ColumnMark[], b: readonly ColumnMark[]): boolean {
  return (
    a.length === b.length &&
    a.every(([name, identity], i) => identity === b[i]![1] && (identity > 0 || name === b[i]![0]))
  );
}

/** For the rows of one table version. */
export class BaseFloors {
  /** In the order of the table's columns. */
  readonly #since: BigUint64Array;
  readonly #isOpen: boolean;
  readonly #cells = new CellMap();

  constructor(note: ShapeNote) {
    this.#since = BigUint64Array.from(note.columns, ([, , since]) => BigInt(since));
    this.#isOpen = this.#since.every((since) => since === 0n);
  }

  /** The lowest version of a row that shows all columns which the tuple at `offset` leaves unchanged. */
  of(bytes: Uint8Array, offset: number): bigint {
    if (this.#isOpen) return 0n;
    this.#cells.read(bytes, offset);
    const { kind, count } = this.#cells;
    let floor = 0n;
    for (let c = 0; c < count; c++) {
      if (kind[c] === CELL_UNCHANGED && this.#since[c]! > floor) floor = this.#since[c]!;
    }
    return floor;
  }
}

/** One entry to complete: a PATCH, for which the target is asked for the row that has its unchanged columns. */
export interface BaseRequest<Target> {
  readonly target: Target;
  readonly writes: TableWrites;
  readonly entry: number;
}

export type BaseLookup<Base> =
  | ({ readonly kind: "found" } & Base)
  /** The row does not exist, has an older shape, or shows a later state: the key must be read from the source. */
  | { readonly kind: "missing" }
  /** The row shows a later commit already: there is nothing to write. */
  | { readonly kind: "newer" };

/** The offset of the base's key in the entry's block. */
export function baseOffset({ writes, entry }: BaseRequest<unknown>): number {
  const block = writes.blocks[writes.block[entry]!]!;
  const row = writes.row[entry]!;
  return writes.moved[entry] === 1 ? block.before[row]! : block.after[row]!;
}

/** Whether the found row is the one that the change was based on. `held`: its version in the target. */
export function judgeBase(
  { target, writes, entry }: BaseRequest<{ readonly floors: Pick<BaseFloors, "of"> }>,
  held: bigint,
): BaseLookup<unknown>["kind"] {
  const block = writes.blocks[writes.block[entry]!]!;
  const row = writes.row[entry]!;
  const version = block.transactions.version[block.tx[row]!]!;
  if (writes.moved[entry] === 1) {
    // When the log is read a second time, the old key may belong to another row by now; one of the same transaction
    // can't be told from it.
    if (held >= version) return "missing";
  } else if (held > version) {
    return "newer";
  }
  return held < target.floors.of(block.bytes, block.after[row]!) ? "missing" : "found";
}

/** How many base rows are asked for at once. */
const BASES_FIRST = 8;
const BASES_MAX = 500;
const BASES_BYTES_AIM = 8 * 1024 * 1024;

/**
 * Gives each request the row from which its PATCH takes unchanged columns, or "missing"; a newer row is passed by. `read` gets
 * few at first, then as many as their measured size allows.
 */
export async function withBases<Request, Base>(
  requests: readonly Request[],
  read: (some: readonly Request[]) => Promise<readonly BaseLookup<Base>[]>,
  bytesIn: (base: Base) => number,
  take: (request: Request, base: Base | "missing") => Promise<void> | void,
): Promise<void> {
  let count = BASES_FIRST;
  for (let from = 0; from < requests.length;) {
    const some = requests.slice(from, from + count);
    const bases = await read(some);
    let byteCount = 0;
    for (const [i, base] of bases.entries()) {
      if (base.kind === "found") byteCount += bytesIn(base);
      if (base.kind !== "newer") await take(some[i]!, base.kind === "found" ? base : "missing");
    }
    const average = byteCount / bases.length;
    count = average === 0 ? BASES_MAX : Math.max(1, Math.min(BASES_MAX, Math.floor(BASES_BYTES_AIM / average)));
    from += some.length;
  }
}
