/** A key's slot among the 16,384 of a cluster: CRC16 (XMODEM) of its hash tag, else of the whole key. */
const OPEN = 0x7b; // '{'
const CLOSE = 0x7d; // '}'
export const SLOT_COUNT = 16_384;

const TABLE = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8;
  for (let bit = 0; bit < 8; bit++) crc = (crc & 0x8000) === 0 ? crc << 1 : (crc << 1) ^ 0x1021;
  return crc & 0xffff;
});

export function slotOf(key: Uint8Array, start = 0, end = key.length): number {
  const open = indexInRange(key, OPEN, start, end);
  const close = open < 0 ? -1 : indexInRange(key, CLOSE, open + 1, end);
  return close > open + 1 ? crc16(key, open + 1, close) : crc16(key, start, end);
}

/** The first position of `byte` in the range, or -1. `indexOf` would search to the end of the buffer. */
export function indexInRange(bytes: Uint8Array, byte: number, start: number, end: number): number {
  for (let i = start; i < end; i++) if (bytes[i] === byte) return i;
  return -1;
}

function crc16(bytes: Uint8Array, start: number, end: number): number {
  let crc = 0;
  for (let i = start; i < end; i++) crc = ((crc << 8) & 0xffff) ^ TABLE[(crc >> 8) ^ bytes[i]!]!;
  return crc % SLOT_COUNT;
}

let tags: string[] | undefined;

/** A short text without braces whose slot this is. */
export function tagOfSlot(slot: number): string {
  tags ??= numbersPerSlot();
  return tags[slot]!;
}

function numbersPerSlot(): string[] {
  const found: string[] = Array.from({ length: SLOT_COUNT });
  let missing = SLOT_COUNT;
  for (let n = 0; missing > 0; n++) {
    const text = String(n);
    const slot = slotOf(Buffer.from(text));
    if (found[slot] !== undefined) continue;
    found[slot] = text;
    missing--;
  }
  return found;
}
