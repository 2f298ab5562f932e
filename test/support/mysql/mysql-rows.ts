/** Events of the binary log decoded into rows that a test can look at. */
import { firstVersion } from "../model/blocks.ts";
import {
  Decoder,
  TOOK_CONTROL,
  TOOK_END,
  TOOK_PAYLOAD,
  TOOK_TABLE_NEEDED,
} from "../../../connectors/mysql/source/rows/decoder.ts";
import { ANONYMOUS_GTID, GTID, GTID_TAGGED, MARIADB_GTID } from "../../../connectors/mysql/source/wire/event-header.ts";
import { columnsOf } from "../../../connectors/mysql/source/rows/columns.ts";
import { RowTarget } from "../../../connectors/mysql/source/rows/rows.ts";
import type { TableMap } from "../../../connectors/mysql/source/rows/table-map.ts";
import { Block, NO_TUPLE, OP_LETTERS } from "../../../src/core/model/block.ts";
import { ByteWriter } from "../../../src/core/bytes.ts";
import type { ZeroDates } from "../../../src/core/contracts/connector.ts";
import { tableId, type TableVersion } from "../../../src/core/model/schema.ts";
import { CELL_NULL, CELL_UNCHANGED, CellMap } from "../../../src/core/model/tuple.ts";
import { readText } from "../../../src/core/values/text.ts";

export interface DecodedRow {
  readonly op: string;
  readonly table: TableVersion;
  readonly index: number;
  /** Canonical texts; undefined: unchanged. */
  readonly before: readonly (string | null | undefined)[] | null;
  readonly after: readonly (string | null | undefined)[] | null;
  /** The cells of `after` as they lie in the tuple. */
  readonly afterCells: readonly string[];
}

export interface DecodeOptions {
  readonly zeroDates?: ZeroDates;
  /** Rows before it, in every transaction, were delivered in an earlier run. */
  readonly skipBelow?: number;
  /** The schema whose tables are captured. */
  readonly schema: string;
  /** How many columns their tables have; the server has further ones of its own behind them. */
  readonly columnCount?: number;
  /** Rows that can't be read are passed by. Default: an error. */
  readonly passesBy?: boolean;
}

export interface Decoded {
  readonly rows: DecodedRow[];
  /** Types of the events that the decoder leaves to others, those of compressed transactions too. */
  readonly controls: number[];
  readonly maps: TableMap[];
  /** Counted over all tables, captured or not. */
  readonly rowCount: number;
}

/** A server that is shared has transactions of other tests between those of a test's own. */
const BEGINS: ReadonlySet<number> = new Set([GTID, GTID_TAGGED, ANONYMOUS_GTID, MARIADB_GTID]);

export function decodeLog(events: readonly Buffer[], options: DecodeOptions): Decoded {
  const zeroDates = options.zeroDates ?? "null";
  const out = new ByteWriter();
  const target = new RowTarget(out, new Block(out.bytes));
  target.transaction = target.block.transactions.add(1n, 1n, 0n, 0);
  target.skipBelow = options.skipBelow ?? 0;
  const decoder = new Decoder(target, { zeroDates: () => zeroDates });
  const controls: number[] = [];
  const maps: TableMap[] = [];
  let rowCount = 0;
  const answer = (took: number): boolean => {
    if (took === TOOK_CONTROL) {
      controls.push(decoder.events.header.type);
      if (BEGINS.has(decoder.events.header.type)) {
        rowCount += target.index;
        target.index = 0;
      }
    }
    if (took !== TOOK_TABLE_NEEDED) return true;
    const map = decoder.needed!;
    if (map.fault !== undefined && options.passesBy !== true) throw map.fault;
    map.version =
      map.fault === undefined && map.schema === options.schema ? versionOf(map, zeroDates, options.columnCount) : null;
    if (map.version !== null) maps.push(map);
    return false;
  };
  for (const event of events) {
    let took = decoder.take(event, 0, event.length);
    while (!answer(took)) took = decoder.take(event, 0, event.length);
    if (took === TOOK_PAYLOAD)
      do took = decoder.takeInner();
      while (!answer(took) || took !== TOOK_END);
  }
  target.block.bytes = out.bytes;
  return { rows: rowsOf(target.block), controls, maps, rowCount: rowCount + target.index };
}

function versionOf(map: TableMap, zeroDates: ZeroDates, columnCount?: number): TableVersion {
  const { names, primaryKey } = map.metadata;
  const key = primaryKey.map((i) => names[i] ?? "");
  const columns = columnsOf(map, { key, zeroDates }).slice(0, columnCount);
  return firstVersion({
    id: tableId(map.schema, map.table),
    schema: map.schema,
    table: map.table,
    dialect: "mysql",
    relation: map.tableId,
    columns,
    // Damaged bytes may name a column that is not there.
    key: primaryKey.length > 0 ? primaryKey.filter((i) => i < columns.length) : [0],
    deferrableKey: false,
    fingerprint: "",
  });
}

const cells = new CellMap();

function rowsOf(block: Block): DecodedRow[] {
  return Array.from({ length: block.count }, (_, row) => {
    const table = block.tables[block.table[row]!]!;
    return {
      op: OP_LETTERS[block.op[row]!]!,
      table,
      index: block.index[row]!,
      before: textsOf(block, table, block.before[row]!),
      after: textsOf(block, table, block.after[row]!),
      afterCells: rawCells(block.bytes, block.after[row]!),
    };
  });
}

function textsOf(block: Block, table: TableVersion, offset: number): (string | null | undefined)[] | null {
  if (offset === NO_TUPLE) return null;
  cells.read(block.bytes, offset);
  return table.columns.map(({ type }, i) => {
    const kind = cells.kind[i]!;
    if (kind === CELL_NULL) return null;
    if (kind === CELL_UNCHANGED) return undefined;
    return readText(type, kind, block.bytes, cells.start[i]!, cells.length[i]!);
  });
}

/** Each cell of a tuple in hex, kind and length included. */
export function rawCells(bytes: Uint8Array, offset: number): string[] {
  if (offset === NO_TUPLE) return [];
  const end = cells.read(bytes, offset);
  return Array.from({ length: cells.count }, (_, i) => {
    const from = cells.start[i]! - (cells.kind[i] === CELL_NULL ? 1 : 5);
    const next = i + 1 === cells.count ? end : cells.start[i]! + cells.length[i]!;
    return Buffer.from(bytes.subarray(from, next)).toString("hex");
  });
}
