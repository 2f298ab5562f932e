/**
 * The log's rows: table maps are kept, rows appended to a block. What is not of rows is the reader's: GTIDs, statements,
 * commits, rotations.
 *
 *   const decoder = new Decoder(target, options)
 *   for each event:  again: switch (decoder.take(bytes, start, end))
 *     TOOK_NOTHING        go on
 *     TOOK_CONTROL        it is the present event of `decoder.events`
 *     TOOK_TABLE_NEEDED   rows of `decoder.needed`, whose version nobody has looked up: set it, then take the event again
 *     TOOK_PAYLOAD        a transaction's events follow: `takeInner()` until it returns TOOK_END, answering as here; and
 *                         again while `await events.nextPart()` is true
 */
import type { StreamOptions } from "../../../../src/core/contracts/change-log.ts";
import { damaged, fatal } from "../errors.ts";
import { EventReader } from "../events/event-reader.ts";
import { readUint48 } from "../wire/bytes.ts";
import * as code from "../wire/event-header.ts";
import type { SpooledEvent } from "../wire/spool.ts";
import { type RowOptions, Rows, type RowTarget, UnreadableRows } from "./rows.ts";
import { type TableMap, TableMaps } from "./table-map.ts";

const TOOK_NOTHING = 0;
export const TOOK_CONTROL = 1;
export const TOOK_TABLE_NEEDED = 2;
export const TOOK_PAYLOAD = 3;
export const TOOK_END = 4;

/** A rows event with this id only ends a statement. */
const NO_TABLE = 0xff_ffff;

export class Decoder {
  readonly events = new EventReader();
  readonly maps = new TableMaps();
  readonly #rows: Rows;
  readonly #isFlowing: NonNullable<StreamOptions["isFlowing"]>;
  needed: TableMap | undefined;

  /** `isFlowing`: see `StreamOptions`. */
  constructor(target: RowTarget, options: RowOptions, isFlowing: StreamOptions["isFlowing"] = () => false) {
    this.#rows = new Rows(target, options);
    this.#isFlowing = isFlowing;
  }

  /** Takes the event between `start` and `end`: header, body, and a checksum if the file has them. */
  take(bytes: Uint8Array, start: number, end: number): number {
    const kind = this.events.take(bytes, start, end);
    if (kind !== code.CLASS_PAYLOAD) return this.#take(kind);
    this.events.open();
    return TOOK_PAYLOAD;
  }

  /** Takes an event that is too large for memory, and closes it after reading. */
  takeSpooled(event: SpooledEvent): number {
    return this.events.takeSpooled(event) === code.CLASS_PAYLOAD ? TOOK_PAYLOAD : TOOK_CONTROL;
  }

  /** The next event of the compressed transaction. */
  takeInner(): number {
    const kind = this.events.takeInner();
    if (kind === undefined) return TOOK_END;
    const took = this.#take(kind);
    if (took !== TOOK_TABLE_NEEDED) this.events.passInner();
    return took;
  }

  /** `kind`: the class of the present event. */
  #take(kind: number): number {
    const { at, bytes, format, header, until } = this.events;
    switch (kind) {
      case code.CLASS_CONTROL:
      case code.CLASS_FORMAT:
        return TOOK_CONTROL;
      case code.CLASS_TABLE_MAP:
        this.maps.take(bytes, at, until, format?.flavour ?? "mysql");
        return TOOK_NOTHING;
      case code.CLASS_ROWS:
        return this.#takeRows(bytes, at, until);
      default:
        throw fatal("MR2023", `the log holds an event of kind ${header.type}, which this version does not know`);
    }
  }

  #takeRows(bytes: Uint8Array, start: number, end: number): number {
    if (end - start < code.HEADER_BYTES + 8) throw damaged("a rows event is shorter than its header");
    const tableId = readUint48(bytes, start + code.HEADER_BYTES);
    if (tableId === NO_TABLE) {
      this.maps.endStatement();
      return TOOK_NOTHING;
    }
    const map = this.maps.find(tableId);
    if (map === undefined) throw damaged("rows of a table that the statement did not name");
    if (map.version === undefined || (map.refused !== undefined && this.#isFlowing(map.refused)))
      return this.#need(map);
    try {
      if (this.#rows.append(this.events.header.type, bytes, start, end, map)) this.maps.endStatement();
    } catch (error) {
      if (!(error instanceof UnreadableRows)) throw error;
      map.fault = error.known;
      return this.#need(map);
    }
    if (map.fault !== undefined) {
      // Only these rows were passed by.
      map.fault = undefined;
      map.version = undefined;
    }
    return TOOK_NOTHING;
  }

  #need(map: TableMap): number {
    map.version = undefined;
    map.refused = undefined;
    this.needed = map;
    return TOOK_TABLE_NEEDED;
  }
}
