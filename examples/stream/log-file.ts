/**
 * The file: lines are only ever added, a batch's by one write.
 *
 *   {"lease":3}
 *   {"table":"public.users","op":"u","version":"36028797046404048","index":0,"row":{"id":"1","note":"b"},"unchanged":["body"]}
 *   {"end":"36028797046404048"}
 *   {"position":"1/4711/0","tables":"{…}","bond":"…","open":""}
 *
 * What lies behind the last line with a position was cut off by a crash, and does not count: `open` takes it away.
 */
import { type FileHandle, open, readFile } from "node:fs/promises";
import * as z from "zod";
import { classify, streamError } from "./errors.ts";

const CHECKPOINT = z.object({ position: z.string(), tables: z.string(), bond: z.string(), open: z.string() });
const LEASE = z.object({ lease: z.int() });

/** What the last batch left. */
export interface StoredCheckpoint {
  /** "" where there is none. */
  readonly position: string;
  /** The texts of `checkpointTexts`. */
  readonly tables: string;
  readonly bond: string;
  /** The version of a transaction whose end is not written yet; "" where there is none. */
  readonly open: string;
}

export const NO_CHECKPOINT: StoredCheckpoint = { position: "", tables: "{}", bond: "", open: "" };

export interface FoundLog {
  readonly lease: number;
  readonly checkpoint: StoredCheckpoint;
  /** Bytes up to, and with, the last line that counts. */
  readonly length: number;
}

/** An empty file and none are the same. */
export async function readLog(path: string): Promise<FoundLog> {
  let found: FoundLog = { lease: 0, checkpoint: NO_CHECKPOINT, length: 0 };
  try {
    const bytes = await readFile(path).catch((error: unknown) => {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return Buffer.alloc(0);
      throw error;
    });
    for (let from = 0, end = bytes.indexOf("\n"); end >= 0; from = end + 1, end = bytes.indexOf("\n", from)) {
      const line = bytes.toString("utf8", from, end);
      if (line.startsWith('{"position":')) {
        found = { ...found, checkpoint: CHECKPOINT.parse(JSON.parse(line)), length: end + 1 };
      } else if (line.startsWith('{"lease":')) {
        found = { ...found, lease: LEASE.parse(JSON.parse(line)).lease, length: end + 1 };
      }
    }
    if (found.length === 0 && bytes.length > 0) throw new Error("no line of Millrace's is in it");
    return found;
  } catch (error) {
    const known = classify(error, path);
    throw known === error && !(error instanceof Error && "code" in error)
      ? streamError("MR3202", "fatal", `${path} is not a file that Millrace wrote`, { cause: error })
      : known;
  }
}

/** Adds lines behind those that count. */
export class LogWriter implements AsyncDisposable {
  readonly #path: string;
  readonly #file: FileHandle;
  #length: number;

  private constructor(path: string, file: FileHandle, length: number) {
    this.#path = path;
    this.#file = file;
    this.#length = length;
  }

  static async open(path: string, length: number): Promise<LogWriter> {
    try {
      const file = await open(path, "a", 0o600);
      await file.truncate(length);
      return new LogWriter(path, file, length);
    } catch (error) {
      throw classify(error, path);
    }
  }

  /** The fence: the file is what this process left, under its name. */
  async expectOurs(): Promise<void> {
    const { size, lease } = await this.#look();
    if (size === null || size < this.#length)
      throw streamError("MR3110", "reopen", `${this.#path} is gone, or was cut`);
    if (size === this.#length) return;
    throw streamError("MR3109", "fatal", `another process has written to ${this.#path}, under lease ${lease}`);
  }

  async add(lines: readonly string[]): Promise<void> {
    const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(""));
    try {
      await this.#file.appendFile(bytes);
      await this.#file.datasync();
      this.#length += bytes.length;
    } catch (error) {
      throw classify(error, this.#path);
    }
  }

  /** Null: no file is under the name any more, or another one. */
  async #look(): Promise<{ readonly size: number | null; readonly lease: number }> {
    await using other = await open(this.#path, "r").catch(() => null);
    if (other === null) return { size: null, lease: 0 };
    const [ours, found] = await Promise.all([this.#file.stat(), other.stat()]);
    if (ours.ino !== found.ino) return { size: null, lease: 0 };
    return { size: found.size, lease: found.size > this.#length ? (await readLog(this.#path)).lease : 0 };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }
}
