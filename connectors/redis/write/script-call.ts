import type { TableWrites } from "../../../src/core/model/batch.ts";
import { ByteWriter } from "../../../src/core/bytes.ts";
import { slotOf, type TombstoneKeys } from "../keys.ts";
import type { Fence } from "./fence.ts";
import { beginRows, endRows, SCRIPT_SHA } from "./script.ts";

export const CALL_ROWS_MAX = 1_000;
/** A call is sent when its rows reach this size; a single row may be larger. */
const CALL_BYTES_MAX = 1024 * 1024;
/** What else an argument with rows has. */
const FRAME_BYTES = 1024;
/** A buffer that one huge row has enlarged is released. */
const KEPT_BYTES_MAX = 4 * 1024 * 1024;

/** What the script stores after all rows succeeded. */
export interface CheckpointToStore {
  readonly position: string;
  readonly bond: string;
  readonly format: string;
  /** "" if they are already stored. */
  readonly tables: string;
}

/** One script call: keys, actions and rows as bytes. Reused; the bytes of `encode` are valid until `reset`. */
export class ScriptCall {
  readonly #tombstones: TombstoneKeys;
  readonly #actions = new Uint8Array(CALL_ROWS_MAX);
  /** Both already framed as arguments. */
  #keys = new ByteWriter();
  #graves = new ByteWriter();
  #out = new ByteWriter();
  #grave = new ByteWriter(512);
  #rows = new ByteWriter();
  #rowStart = 0;
  readonly writes: (TableWrites | undefined)[] = Array.from({ length: CALL_ROWS_MAX });
  readonly entry = new Uint32Array(CALL_ROWS_MAX);
  #firstKey = Buffer.alloc(0);
  /** A row is at most half of an argument, so that one more fits beside those of a call that is not full. */
  #halfBytesMax = 0;
  count = 0;
  hasRemoval = false;

  constructor(tombstones: TombstoneKeys) {
    this.#tombstones = tombstones;
    this.reset();
  }

  /** `argumentBytesMax`: what the server takes. */
  begin(argumentBytesMax: number): this {
    this.#halfBytesMax = argumentBytesMax / 2 - FRAME_BYTES;
    return this;
  }

  reset(): void {
    this.#keys = emptied(this.#keys);
    this.#graves = emptied(this.#graves);
    this.#out = emptied(this.#out);
    this.#rows = emptied(this.#rows);
    beginRows(this.#rows);
    this.writes.fill(undefined, 0, this.count);
    this.count = 0;
    this.hasRemoval = false;
  }

  /** Only if it has a row. */
  get firstKey(): Buffer {
    return this.#firstKey;
  }

  /** The cluster slot of its keys; only if it has a row. */
  get slot(): number {
    return slotOf(this.#firstKey);
  }

  get isFull(): boolean {
    return this.count === CALL_ROWS_MAX || this.#rows.length >= Math.min(CALL_BYTES_MAX, this.#halfBytesMax);
  }

  /** The writer for a row; call `add` when the row is written. */
  beginRow(): ByteWriter {
    this.#rowStart = this.#rows.length;
    return this.#rows;
  }

  /** False, and nothing is added, if the written row is larger than the server accepts. */
  add(action: number, key: ByteWriter, writes: TableWrites | undefined, entry: number): boolean {
    if (this.#rows.length - this.#rowStart > this.#halfBytesMax) {
      this.#rows.length = this.#rowStart;
      return false;
    }
    if (this.count === 0) this.#firstKey = Buffer.from(key.view());
    writeArgument(this.#keys, key.bytes, key.length);
    this.#grave.reset();
    this.#tombstones.write(this.#grave, key.bytes, 0, key.length);
    writeArgument(this.#graves, this.#grave.bytes, this.#grave.length);
    this.#actions[this.count] = action;
    this.writes[this.count] = writes;
    this.entry[this.count] = entry;
    this.count++;
    return true;
  }

  /** Discards a row after `beginRow`. */
  abandonRow(): void {
    this.#rows.length = this.#rowStart;
  }

  encode({ key, claim, step }: Fence, checkpoint: CheckpointToStore | null): Buffer {
    const out = this.#out;
    endRows(this.#rows, this.count);
    const keyCount = 2 * this.count + 1;
    out.reserve(this.#keys.length + this.#graves.length + this.#rows.length + this.count + 1024);
    out.ascii(`*${3 + keyCount + 8}\r\n$7\r\nEVALSHA\r\n`);
    writeText(out, SCRIPT_SHA);
    writeText(out, String(keyCount));
    out.copy(this.#keys.bytes, 0, this.#keys.length);
    out.copy(this.#graves.bytes, 0, this.#graves.length);
    writeArgument(out, key, key.length);
    writeArgument(out, this.#actions, this.count);
    writeArgument(out, this.#rows.bytes, this.#rows.length);
    writeText(out, claim);
    writeText(out, step);
    writeText(out, checkpoint?.position ?? "");
    writeText(out, checkpoint?.bond ?? "");
    writeText(out, checkpoint?.format ?? "");
    writeText(out, checkpoint?.tables ?? "");
    return out.view();
  }
}

function emptied(writer: ByteWriter): ByteWriter {
  if (writer.bytes.length > KEPT_BYTES_MAX) return new ByteWriter();
  writer.reset();
  return writer;
}

function writeArgument(out: ByteWriter, bytes: Uint8Array, length: number): void {
  out.ascii(`$${length}\r\n`);
  out.copy(bytes, 0, length);
  out.ascii("\r\n");
}

function writeText(out: ByteWriter, text: string): void {
  out.ascii(`$${Buffer.byteLength(text)}\r\n`);
  out.utf8(text);
  out.ascii("\r\n");
}
