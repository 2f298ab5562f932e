/** A Postgres source of a test's own, and what it delivers in a form that tests compare. */
import { firstVersion } from "../model/blocks.ts";
import { sourceFactory } from "../../../connectors/postgres/source/config.ts";
import { BEFORE_FULL, BEFORE_KEY, NO_TUPLE, OP_LETTERS, type Block } from "../../../src/core/model/block.ts";
import { comparePositions, type Position } from "../../../src/core/model/position.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type { ChangeStream, SchemaResolver } from "../../../src/core/contracts/change-log.ts";
import type { Chunk } from "../../../src/core/contracts/row-reads.ts";
import type { CreatedLog } from "../../../src/core/contracts/log-admin.ts";
import type { LogIdentity } from "../../../src/core/contracts/positions.ts";
import type { Source } from "../../../src/core/contracts/source.ts";
import type { Logger } from "../../../src/core/contracts/telemetry.ts";
import { CELL_NULL, CELL_UNCHANGED, CellMap } from "../../../src/core/model/tuple.ts";
import { readText } from "../../../src/core/values/text.ts";
import type { FreshDatabase } from "../run/fresh-database.ts";
import { quietLog } from "../run/quiet-log.ts";

/** Stands for a cell that the log did not carry. */
export const UNCHANGED = Symbol("unchanged");
export type TextCells = Record<string, string | null | typeof UNCHANGED>;

export interface Row {
  readonly op: (typeof OP_LETTERS)[number];
  readonly table: string;
  readonly after?: TextCells;
  /** Key columns only, where the log carries no more. */
  readonly before?: TextCells;
}

export interface PlacedRow extends Row {
  readonly position: Position;
  readonly version: bigint;
  readonly xid: number;
}

export interface SourceSettings {
  readonly tables?: readonly string[];
  readonly slot?: string;
  readonly publication?: string;
  readonly url?: string;
  readonly primaryUrl?: string;
  readonly log?: Logger;
}

/** What of a fresh database a source needs. */
type Target = Pick<FreshDatabase, "name" | "url">;

/** The slot is named after the database: slots are shared by a server's databases. */
export async function openSource(database: Target, settings: SourceSettings = {}): Promise<Source & AsyncDisposable> {
  const source = await sourceFactory.create(placeOf(database, settings), settings.log ?? quietLog);
  return Object.assign(source, { [Symbol.asyncDispose]: () => source.close() });
}

export function checkSource(database: Target, settings: SourceSettings = {}) {
  return sourceFactory.check(placeOf(database, settings), new AbortController().signal);
}

export function placeOf(database: Target, settings: SourceSettings = {}) {
  return {
    daemon: database.name,
    folder: ".",
    tables: settings.tables ?? [],
    options: {
      url: settings.url ?? database.url,
      ...(settings.primaryUrl === undefined ? {} : { primaryUrl: settings.primaryUrl }),
      slot: settings.slot ?? `millrace_${database.name}`,
      publication: settings.publication ?? "millrace_test",
    },
  };
}

export const never: AbortSignal = new AbortController().signal;

/** Makes the log without a copy, unless asked for one. */
export function createLog(source: Source, wantCopy = false): Promise<CreatedLog> {
  return source.admin.create({ epoch: 1, wantCopy, resumeIntent: false }, never);
}

/** A registry that counts versions and knows no state. */
export function registry(): SchemaResolver & { readonly seen: TableVersion[] } {
  const seen: TableVersion[] = [];
  const resolve: SchemaResolver = async (shape, since) => {
    const known = seen.find((table) => table.fingerprint === shape.fingerprint);
    if (known !== undefined) return known;
    const version = { ...shape, version: seen.filter((table) => table.id === shape.id).length + 1, since };
    seen.push(version);
    return version;
  };
  return Object.assign(resolve, { seen });
}

/** Reads a stream into comparable rows. */
export class Follower implements AsyncDisposable {
  readonly stream: ChangeStream;
  readonly rows: PlacedRow[] = [];
  readonly messages: {
    readonly prefix: string;
    readonly text: string;
    readonly before: number;
    readonly position: bigint;
  }[] = [];
  /** `until` of every block. */
  readonly untils: Position[] = [];

  constructor(stream: ChangeStream) {
    this.stream = stream;
  }

  static async from(source: Source, position: Position, resolve: SchemaResolver = registry()): Promise<Follower> {
    return new Follower(await source.log.stream(position, { temporary: false, resolve }, never));
  }

  /** Reads until everything that is committed now has come, and gives the rows since the last call without their place. */
  async catchUp(source: Source): Promise<Row[]> {
    const before = this.rows.length;
    await this.readTo(await source.log.tip(never));
    return this.rows.slice(before).map(plain);
  }

  async readTo(commit: bigint): Promise<void> {
    while ((this.untils.at(-1)?.commit ?? 0n) < commit) await this.readOne();
  }

  async readOne(signal: AbortSignal = AbortSignal.timeout(30_000)): Promise<Block["until"]> {
    const block = await this.stream.next(signal);
    this.#take(block);
    block.release();
    return block.until;
  }

  get position(): Position {
    const last = this.untils.at(-1);
    if (last === undefined) throw new Error("nothing was read yet");
    return last;
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.stream[Symbol.asyncDispose]();
  }

  #take(block: Block): void {
    const previous = this.untils.at(-1);
    if (previous !== undefined && comparePositions(block.until, previous) < 0)
      throw new Error("the position went back");
    for (const message of block.messages) {
      const text = Buffer.from(message.content).toString();
      const { prefix, position } = message;
      this.messages.push({ prefix, text, before: this.rows.length + message.at, position });
    }
    this.rows.push(...rowsOf(block));
    this.untils.push(block.until);
  }
}

export function rowsOf(block: Block): PlacedRow[] {
  return Array.from({ length: block.count }, (_, i) => {
    const table = block.tables[block.table[i]!]!;
    const tx = block.tx[i]!;
    const row: PlacedRow = {
      op: OP_LETTERS[block.op[i]!]!,
      table: table.id,
      position: block.positionAt(i),
      version: block.transactions.version[tx]!,
      xid: block.transactions.xid[tx]!,
    };
    const after = block.after[i] === NO_TUPLE ? undefined : cellsOf(block, table, block.after[i]!, false);
    const keyOnly = block.beforeKind[i] === BEFORE_KEY;
    const has = keyOnly || block.beforeKind[i] === BEFORE_FULL;
    const before = has ? cellsOf(block, table, block.before[i]!, keyOnly) : undefined;
    return { ...row, ...(after === undefined ? {} : { after }), ...(before === undefined ? {} : { before }) };
  });
}

export function plain({ op, table, after, before }: Row): Row {
  return { op, table, ...(after === undefined ? {} : { after }), ...(before === undefined ? {} : { before }) };
}

function cellsOf(block: Block, table: TableVersion, offset: number, keyOnly: boolean): TextCells {
  const cells = new CellMap();
  cells.read(block.bytes, offset);
  const ordinals = keyOnly ? table.key : table.columns.map((_, i) => i);
  return Object.fromEntries(
    ordinals.map((i) => {
      const column = table.columns[i]!;
      const kind = cells.kind[i]!;
      if (kind === CELL_NULL) return [column.name, null];
      if (kind === CELL_UNCHANGED) return [column.name, UNCHANGED];
      return [column.name, readText(column.type, kind, block.bytes, cells.start[i]!, cells.length[i]!)];
    }),
  );
}

/** The rows of a chunk, released. */
export function chunkRows(chunk: Chunk): TextCells[] {
  if (chunk.block === null) return [];
  const rows = rowsOf(chunk.block).map((row) => row.after ?? {});
  chunk.block.release();
  return rows;
}

/** The captured table of that id, as a version. */
export async function tableVersion(source: Source, id: string): Promise<TableVersion> {
  const { tables } = await source.catalog.tables(never);
  const shape = tables.find((table) => table.id === id);
  if (shape === undefined) throw new Error(`${id} is not captured`);
  return firstVersion(shape);
}

export type { LogIdentity };
