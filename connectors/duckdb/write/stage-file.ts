import {
  accessSync,
  closeSync,
  constants,
  ftruncateSync,
  mkdtempSync,
  openSync,
  rmSync,
  statfsSync,
  unlinkSync,
  write,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const writeAsync = promisify(write);

let lastFolder = tmpdir();

/** Which disk has the rows on their way to DuckDB, or the memory in its place. */
export function stageFolder(): string {
  return lastFolder;
}

/** Smaller pieces are written synchronously: a trip through the thread pool takes longer. */
const SYNC_BYTES_MAX = 64 * 1024;

/**
 * A file that passes rows to DuckDB. On Linux it has no name (DuckDB opens it by its descriptor), so that a killed
 * process leaves nothing behind; elsewhere it has a name in a private folder that only this user can read.
 */
export class StageFile {
  readonly path: string;
  byteCount = 0;
  hasLineBreak = false;
  rowBytesMax = 0;
  #earlierByteCount = 0;
  readonly #descriptor: number;
  readonly #folder: string;

  /** `reader`: which process reads it, this one or an engine's own (then by this one's descriptor). */
  constructor(reader: "self" | "another") {
    lastFolder = memoryFolder();
    this.#folder = mkdtempSync(join(lastFolder, "millrace-"));
    const name = join(this.#folder, "rows.csv");
    this.#descriptor = openSync(name, "wx+", 0o600);
    const isLinux = process.platform === "linux";
    this.path = isLinux ? `/proc/${reader === "self" ? "self" : process.pid}/fd/${this.#descriptor}` : name;
    if (isLinux) {
      unlinkSync(name);
      rmSync(this.#folder, { recursive: true });
    }
  }

  /** Total bytes over all its uses. */
  get passedByteCount(): number {
    return this.#earlierByteCount + this.byteCount;
  }

  begin(): void {
    if (this.byteCount > 0) ftruncateSync(this.#descriptor, 0);
    this.#earlierByteCount += this.byteCount;
    this.byteCount = 0;
    this.rowBytesMax = 0;
    this.hasLineBreak = false;
  }

  async append(bytes: Buffer): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      const left = bytes.length - at;
      const position = this.byteCount;
      const written =
        left <= SYNC_BYTES_MAX
          ? writeSync(this.#descriptor, bytes, at, left, position)
          : (await writeAsync(this.#descriptor, bytes, at, left, position)).bytesWritten;
      at += written;
      this.byteCount += written;
    }
  }

  appendSync(bytes: Buffer): void {
    for (let at = 0; at < bytes.length;) {
      const written = writeSync(this.#descriptor, bytes, at, bytes.length - at, this.byteCount);
      at += written;
      this.byteCount += written;
    }
  }

  /** Removes what was appended after `byteCount`. */
  cutTo(byteCount: number): void {
    if (byteCount < this.byteCount) ftruncateSync(this.#descriptor, byteCount);
    this.byteCount = Math.min(this.byteCount, byteCount);
  }

  close(): void {
    closeSync(this.#descriptor);
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

const MEMORY_FOLDER = "/dev/shm";
/** Containers often have 64 MB there; a row of 50 MB of bytes is twice that as hex. */
const MEMORY_FREE_BYTES_MIN = 512 * 1024 * 1024;

/** A folder in memory if it is large enough. */
function memoryFolder(): string {
  try {
    accessSync(MEMORY_FOLDER, constants.W_OK);
    const { bavail, bsize } = statfsSync(MEMORY_FOLDER);
    return bavail * bsize >= MEMORY_FREE_BYTES_MIN ? MEMORY_FOLDER : tmpdir();
  } catch {
    // This system has no such folder.
    return tmpdir();
  }
}
