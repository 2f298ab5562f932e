/**
 * The envelope of a change as JSON (docs/envelope.md): what `millrace tail` prints and dead letters keep. Its form is
 * public: fields are added, never changed; test/unit/envelope.test.ts holds it.
 */
import {
  BEFORE_FULL,
  BEFORE_NONE,
  type Block,
  type LogMessage,
  NO_TUPLE,
  OP_DELETE,
  OP_LETTERS,
  OP_READ,
  type Transactions,
} from "./block.ts";
import { ByteWriter } from "../bytes.ts";
import { namesOfTable, type TableVersion } from "./schema.ts";
import { CELL_FAILED, CELL_UNCHANGED, CellMap } from "./tuple.ts";
import { writeBase64 } from "../values/byte-strings.ts";
import { writeUnixTimeJson } from "../values/calendar.ts";
import { writeJson } from "../values/json.ts";
import { writeJsonText } from "../values/json-string.ts";

export interface EnvelopeContext {
  /** Name of the daemon, from the configuration. */
  readonly name: string;
  readonly sourceKind: string;
  readonly database: string;
  /** `millrace/` and the version. */
  readonly producer: string;
  /** A log position in the source's own spelling. */
  readonly formatPosition: (commit: bigint) => string;
  /** A transaction's place in named values (`file`, `pos`); absent: as its position, `commitLsn`. */
  readonly positionFields?: ((commit: bigint) => PositionFields) | undefined;
  /** Position of the change's own record, where the source can tell it from the block; only for blocks of a stream. */
  readonly recordPosition?: ((block: Block, row: number) => bigint | undefined) | undefined;
}

/** What a source says of itself in the envelopes of its changes. */
interface Origin {
  readonly kind: string;
  readonly database: string;
  readonly madeFrom?: Pick<Origin, "kind" | "database">;
  readonly positions: {
    readonly format: EnvelopeContext["formatPosition"];
    readonly fields?: EnvelopeContext["positionFields"];
  };
}

/** The context of the envelopes of one daemon, also of rows that were compacted. */
export function contextOf(
  { name, producer }: Pick<EnvelopeContext, "name" | "producer">,
  { madeFrom, positions, ...own }: Origin,
): EnvelopeContext {
  const { kind, database } = madeFrom ?? own;
  const { format, fields } = positions;
  return { name, producer, sourceKind: kind, database, formatPosition: format, positionFields: fields };
}

export type PositionFields = Readonly<Record<string, string | number>>;

const cells = new CellMap();
const scratch = new ByteWriter(1024);

/** Writes the envelope of row `row`, without a line break. */
export function writeEnvelope(out: ByteWriter, block: Block, row: number, context: EnvelopeContext): void {
  write(out, block, row, block.op[row]!, block.after[row]!, context);
}

/** The same for the delete under the old key, where row `row` changes the key. */
export function writeDeleteEnvelope(out: ByteWriter, block: Block, row: number, context: EnvelopeContext): void {
  write(out, block, row, OP_DELETE, NO_TUPLE, context);
}

/** The key's columns as an object. `offset`: of a tuple that holds them. */
export function writeKeyObject(out: ByteWriter, table: TableVersion, bytes: Uint8Array, offset: number): void {
  cells.read(bytes, offset);
  writeCells(out, table, namesOf(table), bytes, true);
}

function write(out: ByteWriter, block: Block, row: number, op: number, after: number, context: EnvelopeContext): void {
  const table = block.tables[block.table[row]!]!;
  const names = namesOf(table);
  const before = block.before[row]!;
  const beforeKind = before === NO_TUPLE ? BEFORE_NONE : block.beforeKind[row]!;
  const texts = textsOf(block, block.tx[row]!, context);
  append(out, texts.start);
  out.ascii(String(block.index[row]!));
  append(out, OPS[op]!);
  const known = after === NO_TUPLE ? before : after;
  if (known === NO_TUPLE) out.ascii("null");
  else {
    cells.read(block.bytes, known);
    writeCells(out, table, names, block.bytes, true);
  }
  if (beforeKind === BEFORE_NONE) append(out, NO_BEFORE);
  else {
    append(out, BEFORE);
    cells.read(block.bytes, before);
    writeCells(out, table, names, block.bytes, beforeKind !== BEFORE_FULL);
    if (after !== NO_TUPLE) cells.read(block.bytes, after);
  }
  append(out, AFTER);
  let unchangedCount = 0;
  if (after === NO_TUPLE) out.ascii("null");
  else unchangedCount = writeCells(out, table, names, block.bytes, false);
  append(out, UNCHANGED);
  if (unchangedCount > 0) writeUnchanged(out, names);
  const position = context.recordPosition?.(block, row);
  if (position === undefined && op !== OP_READ && texts.tail !== null && texts.names === names) append(out, texts.tail);
  else writeTail(out, texts, names, op === OP_READ ? SNAPSHOT : NO_SNAPSHOT, position, context);
  out.ascii(String(block.index[row]!));
  append(out, texts.end);
}

/** What is between the row and its index. The second change of a table in a transaction keeps it for those that follow. */
function writeTail(
  out: ByteWriter,
  texts: TransactionTexts,
  names: TableNames,
  snapshot: Buffer,
  position: bigint | undefined,
  context: EnvelopeContext,
): void {
  const at = out.length;
  append(out, texts.version);
  append(out, names.schema);
  append(out, texts.origin);
  append(out, names.source);
  append(out, snapshot);
  writePosition(out, "lsn", position, context);
  append(out, texts.transaction);
  const isCommon = position === undefined && snapshot === NO_SNAPSHOT;
  texts.tail = isCommon && texts.names === names ? Buffer.from(out.bytes.subarray(at, out.length)) : null;
  texts.names = names;
}

function append(out: ByteWriter, bytes: Uint8Array): void {
  out.copy(bytes, 0, bytes.length);
}

const OPS = OP_LETTERS.map((letter) => Buffer.from(`","op":"${letter}","key":`));
const BEFORE = Buffer.from(',"before":');
const NO_BEFORE = Buffer.from(',"before":null');
const AFTER = Buffer.from(',"after":');
const UNCHANGED = Buffer.from(',"unchanged":[');
const SNAPSHOT = Buffer.from(',"snapshot":true');
const NO_SNAPSHOT = Buffer.from(',"snapshot":false');

/** What is the same in every envelope of a transaction, as bytes. */
interface TransactionTexts {
  /** Up to the change's index in its id. */
  readonly start: Buffer;
  readonly version: Buffer;
  readonly origin: Buffer;
  /** Up to the index. */
  readonly transaction: Buffer;
  readonly end: Buffer;
  /** Of the last change, and what `writeTail` keeps for its table. */
  names: TableNames | null;
  tail: Buffer | null;
}

interface TransactionKey {
  readonly context: EnvelopeContext;
  readonly epoch: number;
  readonly commit: bigint;
  readonly version: bigint;
  readonly commitTimeUs: bigint;
  readonly xid: number;
  readonly gtid: string | null | undefined;
}

let last: (TransactionKey & { readonly texts: TransactionTexts }) | null = null;

/** Changes of a transaction come one after the other, so only the last one is kept. Blocks are used again: values count. */
function textsOf(block: Block, tx: number, context: EnvelopeContext): TransactionTexts {
  const { transactions } = block;
  const { epoch } = block.until;
  const commit = transactions.commit[tx]!;
  const version = transactions.version[tx]!;
  const commitTimeUs = transactions.commitTimeUs[tx]!;
  const xid = transactions.xid[tx]!;
  const gtid = transactions.origins[tx]?.gtid;
  const isLast =
    last?.context === context &&
    last.commit === commit &&
    last.version === version &&
    last.commitTimeUs === commitTimeUs &&
    last.epoch === epoch &&
    last.xid === xid &&
    last.gtid === gtid;
  if (!isLast) {
    const texts = transactionTexts(block, tx, context);
    last = { context, epoch, commit, version, commitTimeUs, xid, gtid, texts };
  }
  return last!.texts;
}

function transactionTexts(block: Block, tx: number, context: EnvelopeContext): TransactionTexts {
  const { transactions } = block;
  const commit = transactions.commit[tx]!;
  return {
    start: bytesOf((out) => {
      out.ascii('{"id":');
      writeJsonText(out, `${idStart(block, commit, context)}/`);
      // The index follows inside of the quotes.
      out.length--;
    }),
    version: bytesOf((out) => out.ascii(`],"version":"${transactions.version[tx]!}","schema":`)),
    origin: bytesOf((out) => {
      out.ascii(',"source":{');
      writeOrigin(out, context);
    }),
    transaction: bytesOf((out) => {
      writeTransaction(out, transactions, tx, context);
      out.ascii(',"index":');
    }),
    end: bytesOf((out) => {
      writeCommitTime(out, transactions.commitTimeUs[tx]!);
      writeEnd(out, context);
    }),
    names: null,
    tail: null,
  };
}

function bytesOf(writeTo: (out: ByteWriter) => void): Buffer {
  scratch.reset();
  writeTo(scratch);
  return Buffer.from(scratch.view());
}

/** Writes the envelope of a logical message, without a line break. */
export function writeMessageEnvelope(
  out: ByteWriter,
  block: Block,
  message: LogMessage,
  context: EnvelopeContext,
): void {
  const record = message.recordPosition ?? message.position;
  out.ascii('{"id":');
  writeJsonText(out, `${idStart(block, message.position, context)}/m-${idPosition(record, context)}`);
  out.ascii(',"op":"m","message":{"prefix":');
  writeJsonText(out, message.prefix);
  out.ascii(`,"transactional":${message.transactional},"content":"`);
  writeBase64(out, message.content, 0, message.content.length);
  out.ascii('"},"source":{');
  writeOrigin(out, context);
  writePosition(out, "lsn", record, context);
  if (message.transactional) writePosition(out, "commitLsn", message.position, context);
  writeEnd(out, context);
}

function writeEnd(out: ByteWriter, context: EnvelopeContext): void {
  out.ascii('},"producer":');
  writeJsonText(out, context.producer);
  out.byte(0x7d);
}

/** `shop/1/0-1A2B3D0`, before the index: the same each time the same change is read. */
function idStart(block: Block, commit: bigint, context: EnvelopeContext): string {
  return `${context.name}/${block.until.epoch}/${idPosition(commit, context)}`;
}

/** Slashes separate the parts of an id. */
function idPosition(position: bigint, context: EnvelopeContext): string {
  return context.formatPosition(position).replaceAll("/", "-");
}

function writeOrigin(out: ByteWriter, context: EnvelopeContext): void {
  out.ascii('"name":');
  writeJsonText(out, context.name);
  out.ascii(',"kind":');
  writeJsonText(out, context.sourceKind);
  out.ascii(',"database":');
  writeJsonText(out, context.database);
}

function writeTransaction(out: ByteWriter, transactions: Transactions, tx: number, context: EnvelopeContext): void {
  const commit = transactions.commit[tx]!;
  const fields = context.positionFields?.(commit) ?? { commitLsn: context.formatPosition(commit) };
  for (const [name, value] of Object.entries(fields)) {
    out.ascii(`,"${name}":`);
    if (typeof value === "number") out.ascii(String(value));
    else writeJsonText(out, value);
  }
  const xid = transactions.xid[tx]!;
  if (xid !== 0) out.ascii(`,"txid":"${xid}"`);
  const origin = transactions.origins[tx];
  if (origin === undefined) return;
  if (origin.gtid !== null) {
    out.ascii(',"gtid":');
    writeJsonText(out, origin.gtid);
  }
  out.ascii(`,"serverId":${origin.serverId}`);
}

function writePosition(out: ByteWriter, field: string, position: bigint | undefined, context: EnvelopeContext): void {
  if (position === undefined) return;
  out.ascii(`,"${field}":`);
  writeJsonText(out, context.formatPosition(position));
}

function writeCommitTime(out: ByteWriter, commitTimeUs: bigint): void {
  out.ascii(',"commitTime":"');
  writeUnixTimeJson(out, commitTimeUs);
  out.byte(0x22);
}

/** The tuple that `cells` maps, as an object of its known columns. Returns how many cells are not known. */
function writeCells(
  out: ByteWriter,
  table: TableVersion,
  names: TableNames,
  bytes: Uint8Array,
  keyOnly: boolean,
): number {
  out.byte(0x7b);
  let isFirst = true;
  let unchangedCount = 0;
  const count = keyOnly ? table.key.length : table.columns.length;
  for (let k = 0; k < count; k++) {
    const i = keyOnly ? table.key[k]! : k;
    const kind = cells.kind[i]!;
    if (kind === CELL_UNCHANGED) {
      unchangedCount++;
      continue;
    }
    if (kind === CELL_FAILED) continue;
    const name = names.columns[i]!;
    const skipped = isFirst ? 1 : 0;
    out.copy(name, skipped, name.length - skipped);
    isFirst = false;
    writeJson(out, table.columns[i]!.type, kind, bytes, cells.start[i]!, cells.length[i]!);
  }
  out.byte(0x7d);
  return unchangedCount;
}

/** Of the tuple that was written last. */
function writeUnchanged(out: ByteWriter, names: TableNames): void {
  let isFirst = true;
  for (let i = 0; i < cells.count; i++) {
    if (cells.kind[i] !== CELL_UNCHANGED) continue;
    if (!isFirst) out.byte(0x2c);
    isFirst = false;
    // Without comma and colon.
    out.copy(names.columns[i]!, 1, names.columns[i]!.length - 2);
  }
}

/** What is the same in every envelope of a table, as bytes. */
interface TableNames {
  /** `,"name":` of each column. */
  readonly columns: readonly Buffer[];
  readonly schema: Buffer;
  readonly source: Buffer;
}

const namesByTable = new WeakMap<TableVersion, TableNames>();

function namesOf(table: TableVersion): TableNames {
  const known = namesByTable.get(table);
  if (known !== undefined) return known;
  const { id: subject, version, fingerprint } = table;
  const own = namesOfTable(subject);
  const names = {
    columns: table.columns.map(({ name }) => Buffer.from(`,${JSON.stringify(name)}:`)),
    schema: Buffer.from(JSON.stringify({ subject, version, fingerprint })),
    source: Buffer.from(`,"schema":${JSON.stringify(own.schema)},"table":${JSON.stringify(own.table)}`),
  };
  namesByTable.set(table, names);
  return names;
}
