/** Reads rows back in RowBinary, in which a value is written again without being decoded. */
import type { ClickhouseType } from "../types.ts";

export interface StoredRow {
  readonly bytes: Buffer;
  /** Where each value begins, its null byte included, and where the last one ends. */
  readonly start: Uint32Array;
  /** Texts of values that do not fit; null: all fit. */
  readonly exact: ReadonlyMap<string, string> | null;
}

/** How long a value is: so many bytes, or (0) the varint before them times `unitBytes`. */
interface ValueShape {
  readonly isNullable: boolean;
  readonly byteCount: number;
  readonly unitBytes?: number;
}

export const STRING_SHAPE: ValueShape = { isNullable: false, byteCount: 0 };
export const UINT64_SHAPE: ValueShape = { isNullable: false, byteCount: 8 };
export const UINT32_SHAPE: ValueShape = { isNullable: false, byteCount: 4 };
export const UINT8_SHAPE: ValueShape = { isNullable: false, byteCount: 1 };

export function shapeOf({ form, isNullable }: ClickhouseType): ValueShape {
  switch (form.kind) {
    case "bool":
      return { isNullable, byteCount: 1 };
    case "int":
    case "float":
    case "decimal":
      return { isNullable, byteCount: form.byteCount };
    case "date":
      return { isNullable, byteCount: 4 };
    case "timestamp":
      return { isNullable, byteCount: 8 };
    case "uuid":
      return { isNullable, byteCount: 16 };
    case "vector":
      return { isNullable, byteCount: 0, unitBytes: 4 };
    case "text":
    case "json":
    case "array":
    case "bytes":
      return { isNullable, byteCount: 0 };
    default:
      return form satisfies never;
  }
}

const INCOMPLETE = -1;

/** The rows of an answer as they arrive, one at a time. */
export async function* storedRows(
  chunks: AsyncIterable<Buffer>,
  shapes: readonly ValueShape[],
): AsyncGenerator<Omit<StoredRow, "exact">> {
  let parts: Buffer[] = [];
  let size = 0;
  let wanted = 0;
  for await (const chunk of chunks) {
    parts.push(chunk);
    size += chunk.length;
    // A huge row arrives in many chunks: they are joined when there are twice as many bytes as at the last try.
    if (size < wanted) continue;
    const bytes = parts.length === 1 ? chunk : Buffer.concat(parts);
    let at = 0;
    for (;;) {
      const start = new Uint32Array(shapes.length + 1);
      const end = readRow(bytes, at, shapes, start);
      if (end === INCOMPLETE) break;
      yield { bytes, start };
      at = end;
    }
    const rest = bytes.subarray(at);
    parts = rest.length === 0 ? [] : [rest];
    size = rest.length;
    wanted = at === 0 ? 2 * size : 0;
  }
  if (size === 0) return;
  // The last row came in fewer bytes than were waited for.
  const bytes = Buffer.concat(parts);
  for (let at = 0; at < bytes.length;) {
    const start = new Uint32Array(shapes.length + 1);
    at = readRow(bytes, at, shapes, start);
    if (at === INCOMPLETE) throw new Error("the answer ends within a row");
    yield { bytes, start };
  }
}

function readRow(bytes: Buffer, from: number, shapes: readonly ValueShape[], start: Uint32Array): number {
  let at = from;
  for (const [i, { isNullable, byteCount, unitBytes = 1 }] of shapes.entries()) {
    start[i] = at;
    if (isNullable && bytes[at++] === 1) continue;
    if (byteCount > 0) {
      at += byteCount;
      continue;
    }
    let length = 0;
    for (let factor = 1; ; factor *= 0x80) {
      if (at >= bytes.length) return INCOMPLETE;
      const byte = bytes[at++]!;
      length += (byte & 0x7f) * factor;
      if (byte < 0x80) break;
    }
    at += length * unitBytes;
  }
  start[shapes.length] = at;
  return at > bytes.length ? INCOMPLETE : at;
}

export function textAt({ bytes, start }: Omit<StoredRow, "exact">, i: number): string {
  let at = start[i]!;
  while (bytes[at++]! >= 0x80);
  return bytes.toString("utf8", at, start[i + 1]);
}

export function exactTexts(json: string): ReadonlyMap<string, string> | null {
  if (json === "") return null;
  const parsed: unknown = JSON.parse(json);
  if (typeof parsed !== "object" || parsed === null) return null;
  return new Map(Object.entries(parsed).map(([name, text]) => [name, String(text)]));
}
