/** Entries of a batch as the changes that programs get: the envelope of docs/envelope.md as an object. */
import { CommitWalk } from "../../connectors/kit/ordered-changes.ts";
import { type Batch, DELETE, type Sweep, type TableWrites, type Truncate } from "../core/model/batch.ts";
import {
  BEFORE_FULL,
  BEFORE_NONE,
  NO_TUPLE,
  OP_LETTERS,
  OP_TRUNCATE,
  type TransactionOrigin,
} from "../core/model/block.ts";
import { ByteWriter } from "../core/bytes.ts";
import type { EnvelopeContext } from "../core/model/envelope.ts";
import { changeOp, isRead } from "../core/targets/history.ts";
import type { Column, TableVersion } from "../core/model/schema.ts";
import { CELL_BINARY, CELL_FAILED, CELL_NULL, CELL_TEXT, CELL_UNCHANGED, CellMap } from "../core/model/tuple.ts";
import { writeUnixTimeJson } from "../core/values/calendar.ts";
import { commitOf, epochOf } from "../core/model/position.ts";
import type {
  Change,
  ChangeSource,
  Row,
  RowChange,
  SchemaChange,
  SchemaName,
  TableRead,
  TableTruncated,
  Value,
} from "./api.ts";
import type { ColumnType } from "../core/model/types.ts";
import { everyNumber, isExactly, longNumbers } from "../core/values/exact-json.ts";
import { writeJson } from "../core/values/json.ts";

interface InLog {
  readonly commitTimeUs: bigint;
  readonly xid: number;
  readonly origin: TransactionOrigin | undefined;
}

type Fixed = Omit<ChangeSource, "schema" | "table" | "snapshot" | "index">;

/** What is the same for all changes of a transaction. */
interface TransactionFacts {
  /** Of the transaction; of rows that were read, what they were read at. */
  readonly version: bigint;
  readonly commit: bigint;
  readonly commitTime: string;
  readonly isRead: boolean;
  /** The id up to the change's index. */
  readonly idStart: string;
  readonly versionText: string;
  readonly source: Fixed;
}

const cells = new CellMap();
/** Of the tuple that `cells` maps, by column. */
const values: (Value | undefined)[] = [];
const scratch = new ByteWriter(1024);
const NONE: readonly [] = [];

export class Changes {
  readonly #context: EnvelopeContext;
  readonly #schemas = new WeakMap<TableVersion, SchemaName>();
  #last: TransactionFacts | null = null;
  #bytes: Uint8Array | null = null;
  #buffer: Buffer = Buffer.alloc(0);

  constructor(context: EnvelopeContext) {
    this.#context = context;
  }

  /** `known`: of its transaction, where the caller knows that. */
  row(writes: TableWrites, entry: number, known: TransactionFacts = this.factsOf(writes, entry)): RowChange {
    const { table } = writes;
    const block = writes.blocks[writes.block[entry]!]!;
    const row = writes.row[entry]!;
    if (block.bytes !== this.#bytes) {
      const { buffer, byteOffset, byteLength } = (this.#bytes = block.bytes);
      this.#buffer = Buffer.from(buffer, byteOffset, byteLength);
    }
    const index = block.index[row]!;
    const isGone = writes.action[entry] === DELETE;
    const [before, after] = [block.before[row]!, isGone ? NO_TUPLE : block.after[row]!];
    const beforeKind = before === NO_TUPLE ? BEFORE_NONE : block.beforeKind[row]!;
    let old: Row | null = null;
    let key: Row = {};
    if (beforeKind !== BEFORE_NONE || after === NO_TUPLE) {
      this.#read(block.bytes, before, table);
      if (after === NO_TUPLE) key = keyOf(table);
      if (beforeKind === BEFORE_FULL) old = rowOf(table);
      else if (beforeKind !== BEFORE_NONE) old = keyOf(table);
    }
    let whole: Row | null = null;
    let unchanged: readonly string[] = NONE;
    if (after !== NO_TUPLE) {
      this.#read(block.bytes, after, table);
      key = keyOf(table);
      whole = rowOf(table);
      if (writes.patchCount > 0) unchanged = unchangedOf(table);
    }
    return {
      id: `${known.idStart}${index}`,
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- no entry of a batch is a truncate
      op: changeOp(writes, entry) as RowChange["op"],
      key,
      before: old,
      after: whole,
      unchanged,
      version: known.versionText,
      schema: this.#schemaOf(table),
      source: this.#sourceOf(known, table, known.isRead, index),
      producer: this.#context.producer,
    };
  }

  truncated({ table, version, record }: Truncate): TableTruncated {
    const log = record ?? { index: 0, commitTimeUs: 0n, xid: 0, origin: undefined };
    const known = this.#knownOf({ version, commit: commitOf(version), epoch: epochOf(version), isRead: false, log });
    return {
      id: `${known.idStart}${log.index}`,
      op: OP_LETTERS[OP_TRUNCATE],
      key: null,
      before: null,
      after: null,
      unchanged: NONE,
      version: known.versionText,
      schema: this.#schemaOf(table),
      source: this.#sourceOf(known, table, false, log.index),
      producer: this.#context.producer,
    };
  }

  /** When that was committed, as changes have it. */
  timeOf(commitTimeUs: bigint): string {
    scratch.reset();
    writeUnixTimeJson(scratch, commitTimeUs);
    return scratch.view().toString("latin1");
  }

  read({ table, below }: Sweep): TableRead {
    return { op: "s", below: String(below), schema: this.#schemaOf(table), source: this.#placeOf(table) };
  }

  shape(table: TableVersion): SchemaChange {
    return {
      op: "schema",
      schema: this.#schemaOf(table),
      source: this.#placeOf(table),
      columns: table.columns.map(({ name, type, native, nullable }) => ({ name, type: type.kind, native, nullable })),
      keyColumns: table.key.map((c) => table.columns[c]!.name),
    };
  }

  /** Fills `values` from a tuple; a column of which it says nothing has none. */
  #read(bytes: Uint8Array, tuple: number, { columns }: TableVersion): void {
    cells.read(bytes, tuple);
    const { kind: kinds, start, length, count } = cells;
    for (let c = 0; c < columns.length; c++) {
      const kind = kinds[c]!;
      const isAbsent = c >= count || kind === CELL_UNCHANGED || kind === CELL_FAILED;
      values[c] = isAbsent ? undefined : valueOf(columns[c]!.type, kind, this.#buffer, start[c]!, length[c]!);
    }
  }

  /**
   * Of the transaction that an entry of the log belongs to; of a row that was read, of that row alone. Changes of a
   * transaction follow each other, so only the last one is kept.
   */
  factsOf(writes: TableWrites, entry: number): TransactionFacts {
    const block = writes.blocks[writes.block[entry]!]!;
    const row = writes.row[entry]!;
    const { transactions } = block;
    const tx = block.tx[row]!;
    const version = transactions.version[tx]!;
    const commit = transactions.commit[tx]!;
    const wasRead = isRead(block, row);
    const last = this.#last;
    if (last !== null && last.version === version && last.commit === commit && last.isRead === wasRead && !wasRead)
      return last;
    const log = {
      commitTimeUs: transactions.commitTimeUs[tx]!,
      xid: transactions.xid[tx]!,
      origin: transactions.origins[tx],
    };
    return this.#knownOf({ version, commit, epoch: block.until.epoch, isRead: wasRead, log });
  }

  #knownOf({
    version,
    commit,
    epoch,
    isRead: wasRead,
    log,
  }: Pick<TransactionFacts, "version" | "commit" | "isRead"> & {
    readonly epoch: number;
    readonly log: InLog;
  }): TransactionFacts {
    const { name, sourceKind, database, formatPosition, positionFields } = this.#context;
    const place = formatPosition(commit).replaceAll("/", "-");
    const commitTime = this.timeOf(log.commitTimeUs);
    const source: Fixed = {
      name,
      kind: sourceKind,
      database,
      ...(positionFields?.(commit) ?? { commitLsn: formatPosition(commit) }),
      ...(log.xid === 0 ? {} : { txid: String(log.xid) }),
      ...(log.origin?.gtid == null ? {} : { gtid: log.origin.gtid }),
      ...(log.origin === undefined ? {} : { serverId: log.origin.serverId }),
      commitTime,
    };
    const idStart = `${name}/${epoch}/${place}/`;
    return (this.#last = {
      version,
      commit,
      isRead: wasRead,
      commitTime,
      idStart,
      versionText: String(version),
      source,
    });
  }

  #sourceOf(
    { source }: TransactionFacts,
    { schema, table }: TableVersion,
    snapshot: boolean,
    index: number,
  ): ChangeSource {
    return { ...source, schema, table, snapshot, index };
  }

  #placeOf({ schema, table }: TableVersion): TableRead["source"] {
    const { name, sourceKind: kind, database } = this.#context;
    return { name, kind, database, schema, table };
  }

  #schemaOf(table: TableVersion): SchemaName {
    const known = this.#schemas.get(table);
    if (known !== undefined) return known;
    const { id: subject, version, fingerprint } = table;
    const made = { subject, version, fingerprint };
    this.#schemas.set(table, made);
    return made;
  }
}

function keyOf({ key, columns }: TableVersion): Row {
  const found: Record<string, Value> = {};
  for (const c of key) take(found, columns[c]!, values[c]);
  return found;
}

function rowOf({ columns }: TableVersion): Row {
  const found: Record<string, Value> = {};
  for (let c = 0; c < columns.length; c++) take(found, columns[c]!, values[c]);
  return found;
}

function take(to: Record<string, Value>, { name }: Column, value: Value | undefined): void {
  if (value === undefined) return;
  if (name === "__proto__")
    Object.defineProperty(to, name, { value, enumerable: true, configurable: true, writable: true });
  else to[name] = value;
}

/** Of the tuple that `cells` maps. */
function unchangedOf({ columns }: TableVersion): readonly string[] {
  const found: string[] = [];
  for (let c = 0; c < columns.length; c++) if (cells.kind[c] === CELL_UNCHANGED) found.push(columns[c]!.name);
  return found.length === 0 ? NONE : found;
}

/** A change of the key is one change here, whose old row has the old key: its delete under that is not told. */
export function isHalf({ action }: TableWrites, entry: number, isMoved: boolean): boolean {
  return isMoved && action[entry] === DELETE;
}

export function changesOf(batch: Batch, origin: EnvelopeContext): readonly Change[] {
  const changes = new Changes(origin);
  switch (batch.kind) {
    case "rows": {
      const found: Change[] = [];
      new CommitWalk(batch).visit(Number.POSITIVE_INFINITY, (writes, entry, isMoved) => {
        if (!isHalf(writes, entry, isMoved)) found.push(changes.row(writes, entry));
      });
      return found;
    }
    case "truncate":
      return [changes.truncated(batch)];
    case "sweep":
      return batch.sweeps.map((sweep) => changes.read(sweep));
    case "checkpoint":
      return [];
    default:
      return batch satisfies never;
  }
}

/**
 * Cells as values of JavaScript, in the forms of the envelope (docs/envelope.md) and without loss: integers of 64 bits are
 * bigint. The values outlive the block that they are read from.
 */

export function valueOf(type: ColumnType, kind: number, bytes: Buffer, start: number, length: number): Value {
  if (kind === CELL_NULL) return null;
  const end = start + length;
  switch (type.kind) {
    case "int":
      if (kind === CELL_TEXT) {
        const text = bytes.toString("latin1", start, end);
        return type.bits === 64 ? BigInt(text) : Number(text);
      }
      return type.bits === 64 ? bytes.readBigInt64BE(start) : bytes.readIntBE(start, length);
    case "bool":
      return kind === CELL_TEXT ? bytes[start] === 0x74 : bytes[start] !== 0;
    case "text":
    case "enum":
    case "opaque":
      return bytes.toString("utf8", start, end);
    case "decimal":
    case "uuid":
      return kind === CELL_TEXT ? bytes.toString("latin1", start, end) : quoted(type, kind, bytes, start, length);
    case "bytes":
    case "date":
    case "time":
    case "timestamp":
      return quoted(type, kind, bytes, start, length);
    case "float":
      if (kind === CELL_BINARY && length === 8) {
        const value = bytes.readDoubleBE(start);
        if (Number.isFinite(value)) return value;
      }
      return JSON.parse(jsonOf(type, kind, bytes, start, length));
    case "json":
      return parseExact(jsonOf(type, kind, bytes, start, length));
    case "array":
      return arrayOf(leafOf(type), jsonOf(type, kind, bytes, start, length));
    case "vector":
      return JSON.parse(jsonOf(type, kind, bytes, start, length));
    default:
      return type satisfies never;
  }
}

function jsonOf(type: ColumnType, kind: number, bytes: Buffer, start: number, length: number): string {
  scratch.reset();
  writeJson(scratch, type, kind, bytes, start, length);
  return scratch.bytes.toString("utf8", 0, scratch.length);
}

/** Of types whose text needs no escapes. */
function quoted(type: ColumnType, kind: number, bytes: Buffer, start: number, length: number): string {
  scratch.reset();
  writeJson(scratch, type, kind, bytes, start, length);
  return scratch.bytes.toString("latin1", 1, scratch.length - 1);
}

function leafOf(type: ColumnType): ColumnType {
  return type.kind === "array" ? leafOf(type.of) : type;
}

function arrayOf(leaf: ColumnType, text: string): Value {
  if (leaf.kind === "json") return parseExact(text);
  if (leaf.kind !== "int" || leaf.bits !== 64) return JSON.parse(text);
  return everyNumber(text, BigInt);
}

/** A number that a double does not hold is a bigint, or its text if it is none. */
export function parseExact(text: string): Value {
  return longNumbers(text, (source, value) => {
    if (/^-?\d+$/.test(source)) return Number.isSafeInteger(value) ? value : BigInt(source);
    return isExactly(value, source) ? value : source;
  });
}
