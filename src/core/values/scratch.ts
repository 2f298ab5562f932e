import { ByteWriter } from "../bytes.ts";

/** A buffer that one huge value has enlarged is released. */
const KEPT_BYTES_MAX = 1024 * 1024;

const pool: ByteWriter[] = [];

/** Lends an empty writer during the call; calls may be nested. */
export function withScratch(use: (scratch: ByteWriter) => void): void {
  const scratch = pool.pop() ?? new ByteWriter(1024);
  scratch.reset();
  try {
    use(scratch);
  } finally {
    if (scratch.bytes.length <= KEPT_BYTES_MAX) pool.push(scratch);
  }
}
