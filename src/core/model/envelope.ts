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
import type { ByteWriter } from "../bytes.ts";
import type { TableVersion } from "./schema.ts";
import { CELL_UNCHANGED, CellMap } from "./tuple.ts";
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
  readonly positions: {
    readonly format: EnvelopeContext["formatPosition"];
    readonly fields?: EnvelopeContext["positionFields"];
  };
}

/** The context of the envelopes of one daemon, also of rows that were netted. */
export function contextOf(
  { name, producer }: Pick<EnvelopeContext, "name" | "producer">,
  { kind, database, positions }: Origin,
): EnvelopeContext {
  const { format, fields } = positions;
  return { name, producer, sourceKind: kind, database, formatPosition: format, positionFields: fields };
}

export type PositionFields = Readonly<Record<string, string | number>>;

const cells = new CellMap();

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
  writeTuple(out, table, namesOf(table), bytes, offset, true);
}

function write(out: ByteWriter, block: Block, row: number, op: number, after: number, context: EnvelopeContext): void {
  const table = block.tables[block.table[row]!]!;
  const names = namesOf(table);
  const before = block.before[row]!;
  const beforeKind = before === NO_TUPLE ? BEFORE_NONE : block.beforeKind[row]!;
  out.ascii('{"id":');
  writeChangeId(out, block, row, context);
  out.ascii(`,"op":"${OP_LETTERS[op]}","key":`);
  writeTuple(out, table, names, block.bytes, after === NO_TUPLE ? before : after, true);
  out.ascii(',"before":');
  writeTuple(
    out,
    table,
    names,
    block.bytes,
    beforeKind === BEFORE_NONE ? NO_TUPLE : before,
    beforeKind !== BEFORE_FULL,
  );
  out.ascii(',"after":');
  writeTuple(out, table, names, block.bytes, after, false);
  out.ascii(',"unchanged":');
  writeUnchanged(out, table, block.bytes, after);
  out.ascii(`,"version":"${block.transactions.version[block.tx[row]!]!}","schema":`);
  out.copy(names.schema, 0, names.schema.length);
  out.ascii(',"source":{');
  writeOrigin(out, context);
  out.copy(names.source, 0, names.source.length);
  out.ascii(`,"snapshot":${op === OP_READ}`);
  writePosition(out, "lsn", context.recordPosition?.(block, row), context);
  writeTransaction(out, block.transactions, block.tx[row]!, context);
  out.ascii(`,"index":${block.index[row]!}`);
  writeCommitTime(out, block.transactions.commitTimeUs[block.tx[row]!]!);
  writeEnd(out, context);
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

/** `shop/1/0-1A2B3D0/4`: the same each time the same change is read. */
function writeChangeId(out: ByteWriter, block: Block, row: number, context: EnvelopeContext): void {
  const commit = block.transactions.commit[block.tx[row]!]!;
  writeJsonText(out, `${idStart(block, commit, context)}/${block.index[row]!}`);
}

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

/** The tuple as an object of its known columns, or null. */
function writeTuple(
  out: ByteWriter,
  table: TableVersion,
  names: TableNames,
  bytes: Uint8Array,
  offset: number,
  keyOnly: boolean,
): void {
  if (offset === NO_TUPLE) return out.ascii("null");
  cells.read(bytes, offset);
  out.byte(0x7b);
  let isFirst = true;
  const count = keyOnly ? table.key.length : table.columns.length;
  for (let k = 0; k < count; k++) {
    const i = keyOnly ? table.key[k]! : k;
    const kind = cells.kind[i]!;
    if (kind === CELL_UNCHANGED) continue;
    if (!isFirst) out.byte(0x2c);
    isFirst = false;
    const name = names.columns[i]!;
    out.copy(name, 0, name.length);
    writeJson(out, table.columns[i]!.type, kind, bytes, cells.start[i]!, cells.length[i]!);
  }
  out.byte(0x7d);
}

function writeUnchanged(out: ByteWriter, table: TableVersion, bytes: Uint8Array, offset: number): void {
  out.byte(0x5b);
  if (offset !== NO_TUPLE) {
    cells.read(bytes, offset);
    let isFirst = true;
    for (let i = 0; i < cells.count; i++) {
      if (cells.kind[i] !== CELL_UNCHANGED) continue;
      if (!isFirst) out.byte(0x2c);
      isFirst = false;
      writeJsonText(out, table.columns[i]!.name);
    }
  }
  out.byte(0x5d);
}

/** What is the same in every envelope of a table, as bytes. */
interface TableNames {
  /** `"name":` of each column. */
  readonly columns: readonly Buffer[];
  readonly schema: Buffer;
  readonly source: Buffer;
}

const namesByTable = new WeakMap<TableVersion, TableNames>();

function namesOf(table: TableVersion): TableNames {
  const known = namesByTable.get(table);
  if (known !== undefined) return known;
  const { id: subject, version, fingerprint } = table;
  const names = {
    columns: table.columns.map(({ name }) => Buffer.from(`${JSON.stringify(name)}:`)),
    schema: Buffer.from(JSON.stringify({ subject, version, fingerprint })),
    source: Buffer.from(`,"schema":${JSON.stringify(table.schema)},"table":${JSON.stringify(table.table)}`),
  };
  namesByTable.set(table, names);
  return names;
}
