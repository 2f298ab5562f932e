/** Where a change comes from: the block `source` of Debezium's records, and of CloudEvents' attributes. */
import type { ByteWriter } from "../../../../src/core/bytes.ts";
import type { Block } from "../../../../src/core/model/block.ts";
import type { EnvelopeContext } from "../../../../src/core/model/envelope.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import { baseVersion, epochOf } from "../../../../src/core/model/position.ts";
import { isRead } from "../../../../src/core/targets/history.ts";
import type { Layout } from "./layout.ts";

/** Of a change or of a truncate; one object for all. */
export interface Origin {
  timeUs: bigint;
  snapshot: "false" | "true" | "incremental";
  /** The transaction's. */
  version: bigint;
  /** Of the transaction in the log; 0: not known. */
  position: bigint;
  /** Postgres: 0 where it is not known. */
  xid: number;
  gtid: string | null;
  serverId: number;
  /** The change's number in its transaction. */
  index: number;
}

export function newOrigin(): Origin {
  return { timeUs: 0n, snapshot: "false", version: 0n, position: 0n, xid: 0, gtid: null, serverId: 0, index: 0 };
}

const POSITION_BITS = 55;

/** The position in a transaction's version. */
export function positionOf(version: bigint): bigint {
  return BigInt.asUintN(POSITION_BITS, version);
}

export function setOrigin(origin: Origin, block: Block, row: number): void {
  const { transactions } = block;
  const tx = block.tx[row]!;
  const version = transactions.version[tx]!;
  const from = transactions.origins[tx];
  origin.timeUs = transactions.commitTimeUs[tx]!;
  origin.snapshot = isRead(block, row) ? (version === baseVersion(epochOf(version)) ? "true" : "incremental") : "false";
  origin.version = version;
  origin.position = positionOf(version);
  origin.xid = origin.snapshot === "false" ? transactions.xid[tx]! : 0;
  origin.gtid = from?.gtid ?? null;
  origin.serverId = from?.serverId ?? 0;
  origin.index = block.index[row]!;
}

const COMMON =
  '{"type":"string","optional":false,"field":"version"},{"type":"string","optional":false,"field":"connector"},' +
  '{"type":"string","optional":false,"field":"name"},{"type":"int64","optional":false,"field":"ts_ms"},' +
  '{"type":"string","optional":true,"name":"io.debezium.data.Enum","version":1,"parameters":{"allowed":' +
  '"true,first,first_in_data_collection,last_in_data_collection,last,false,incremental"},"default":"false","field":"snapshot"},' +
  '{"type":"string","optional":false,"field":"db"},{"type":"string","optional":true,"field":"sequence"},' +
  '{"type":"int64","optional":true,"field":"ts_us"},{"type":"int64","optional":true,"field":"ts_ns"},';
const POSTGRES =
  '{"type":"string","optional":false,"field":"schema"},{"type":"string","optional":false,"field":"table"},' +
  '{"type":"int64","optional":true,"field":"txId"},{"type":"int64","optional":true,"field":"lsn"},' +
  '{"type":"int64","optional":true,"field":"xmin"},{"type":"string","optional":true,"field":"origin"},' +
  '{"type":"int64","optional":true,"field":"origin_lsn"}';
const MYSQL =
  '{"type":"string","optional":true,"field":"table"},{"type":"int64","optional":false,"field":"server_id"},' +
  '{"type":"string","optional":true,"field":"gtid"},{"type":"string","optional":false,"field":"file"},' +
  '{"type":"int64","optional":false,"field":"pos"},{"type":"int32","optional":false,"field":"row"},' +
  '{"type":"int64","optional":true,"field":"thread"},{"type":"string","optional":true,"field":"query"}';

const MYSQL_END = Buffer.from(',"thread":null,"query":null}');

/** The block of a table's changes in one transaction; MySQL's up to the change's number. */
interface KnownBlock extends Pick<Origin, "version" | "timeUs" | "snapshot"> {
  readonly head: Buffer;
}

export class SourceBlock {
  readonly connector: "postgresql" | "mysql";
  /** The product's version. */
  readonly version: string;
  readonly #context: EnvelopeContext;
  readonly #name: string;
  readonly #head: string;
  /** Of the last transaction with changes of a table: for all of these it is the same. */
  readonly #blocks = new WeakMap<TableVersion, KnownBlock>();

  /** `name`: what the names of topics begin with. */
  constructor(context: EnvelopeContext, name: string) {
    this.#context = context;
    this.#name = name;
    this.connector = context.sourceKind === "postgres" ? "postgresql" : "mysql";
    this.version = context.producer.replace(/^.*\//, "");
    const { version, connector } = this;
    this.#head = `{${JSON.stringify({ version, connector, name }).slice(1, -1)},"ts_ms":`;
  }

  get isPostgres(): boolean {
    return this.connector === "postgresql";
  }

  /** The members of its schema. */
  get schema(): string {
    const rest = `"optional":false,"name":"io.debezium.connector.${this.connector}.Source","version":1`;
    return `"type":"struct","fields":[${COMMON}${this.isPostgres ? POSTGRES : MYSQL}],${rest}`;
  }

  write(out: ByteWriter, { table, own }: Pick<Layout, "table" | "own">, origin: Origin): void {
    const known = this.#blocks.get(table);
    const isSame =
      known?.version === origin.version && known.timeUs === origin.timeUs && known.snapshot === origin.snapshot;
    const block = isSame ? known : this.#blockOf(table, own, origin);
    out.copy(block.head, 0, block.head.length);
    if (this.isPostgres) return;
    out.ascii(String(origin.index));
    out.copy(MYSQL_END, 0, MYSQL_END.length);
  }

  #blockOf(table: TableVersion, own: Layout["own"], origin: Origin): KnownBlock {
    const { version, timeUs, snapshot } = origin;
    const db = JSON.stringify(this.isPostgres ? this.#context.database : own.schema);
    const times = `"ts_us":${timeUs},"ts_ns":${timeUs}000,`;
    const common = `${timeUs / 1000n},"snapshot":"${snapshot}","db":${db},"sequence":${this.sequence(origin) ?? "null"},${times}`;
    const rest = this.isPostgres ? this.#postgresPart(own, origin) : this.#mysqlPart(own, origin);
    const block = { version, timeUs, snapshot, head: Buffer.from(`${this.#head}${common}${rest}`) };
    this.#blocks.set(table, block);
    return block;
  }

  /** As JSON: a text that is a list of the positions of the last commit, which is not known here, and of the change. */
  sequence({ position }: Origin): string | null {
    return this.isPostgres && position !== 0n ? `"[null,\\"${position}\\"]"` : null;
  }

  /** As text; the same in a transaction's own records and in those of its changes. */
  transactionId({ xid, position, gtid }: Pick<Origin, "xid" | "position" | "gtid">): string {
    if (this.isPostgres) return `${xid}:${position}`;
    const { file, pos } = this.#fileAndPos(position);
    return gtid ?? `file=${file},pos=${pos}`;
  }

  /** For CloudEvents: those of the fields that are known, as texts. */
  attributes({ table, schema }: Layout["own"], origin: Origin): readonly (readonly [string, string])[] {
    const { timeUs, snapshot, position } = origin;
    const sequence = this.sequence(origin);
    const common: (readonly [string, string])[] = [
      ["version", this.version],
      ["connector", this.connector],
      ["name", this.#name],
      ["tsms", String(timeUs / 1000n)],
      ["snapshot", snapshot],
      ["db", this.isPostgres ? this.#context.database : schema],
      ["tsus", String(timeUs)],
      ["tsns", `${timeUs}000`],
      ["table", table],
    ];
    if (sequence !== null) common.push(["sequence", String(JSON.parse(sequence))]);
    if (this.isPostgres) {
      common.push(["schema", schema]);
      if (position !== 0n) common.push(["lsn", String(position)]);
      return common;
    }
    const { file, pos } = this.#fileAndPos(position);
    common.push(["serverid", String(origin.serverId)], ["file", String(file)], ["pos", String(pos)]);
    if (origin.gtid !== null) common.push(["gtid", origin.gtid]);
    common.push(["row", String(origin.index)]);
    return common;
  }

  /** The flat form's fields beside those of all sources. */
  flatFields(origin: Origin): string {
    if (this.isPostgres) return `,"__lsn":${origin.position === 0n ? "null" : origin.position}`;
    const { file, pos } = this.#fileAndPos(origin.position);
    return `,"__file":${JSON.stringify(file)},"__pos":${pos}`;
  }

  get flatSchema(): string {
    if (this.isPostgres) return ',{"type":"int64","optional":true,"field":"__lsn"}';
    return ',{"type":"string","optional":true,"field":"__file"},{"type":"int64","optional":true,"field":"__pos"}';
  }

  #postgresPart({ schema, table }: Layout["own"], { xid, position }: Origin): string {
    const names = `"schema":${JSON.stringify(schema)},"table":${JSON.stringify(table)}`;
    const lsn = position === 0n ? "null" : position;
    return `${names},"txId":${xid === 0 ? "null" : xid},"lsn":${lsn},"xmin":null,"origin":null,"origin_lsn":null}`;
  }

  /** Up to the change's number. */
  #mysqlPart({ table }: Layout["own"], { position, gtid, serverId }: Origin): string {
    const { file, pos } = this.#fileAndPos(position);
    const named = `"gtid":${gtid === null ? "null" : JSON.stringify(gtid)},"file":${JSON.stringify(file)}`;
    return `"table":${JSON.stringify(table)},"server_id":${serverId},${named},"pos":${pos},"row":`;
  }

  #fileAndPos(position: bigint): { readonly file: string | number; readonly pos: string | number } {
    // Documents have numbers for positions.
    const { file = "", pos = String(position) } =
      position === 0n ? {} : (this.#context.positionFields?.(position) ?? {});
    return { file, pos };
  }
}
