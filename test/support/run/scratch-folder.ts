import { statfsSync } from "node:fs";
import { freemem, tmpdir } from "node:os";

const IN_MEMORY = "/dev/shm";
const GIB = 2 ** 30;
/** A whole run has some two gigabytes there at a time at most, and leaves nothing. */
const FREE_BYTES_MIN = 8 * GIB;
const MEMORY_BYTES_MIN = 12 * GIB;

/** Where tests and their servers write: in memory where there is plenty, as nothing of it has to outlive the machine. */
export function scratchFolder(): string {
  try {
    const { bavail, bsize } = statfsSync(IN_MEMORY);
    return bavail * bsize >= FREE_BYTES_MIN && freemem() >= MEMORY_BYTES_MIN ? IN_MEMORY : tmpdir();
  } catch {
    // No Linux.
    return tmpdir();
  }
}
