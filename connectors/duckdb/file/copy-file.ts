/**
 * Copies an open DuckDB file so that another process can query the copy, with its own memory and without any effect on
 * the writer. Another process also does the copying, because this one must not open the file a second time
 * (database.ts).
 */
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, statfsSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { duckdbError, stopped } from "../errors.ts";

const SPARE_BYTES = 64 * 1024 * 1024;
const LOOK_MS = 200;

/** Copies the log up to the last commit. Where the file system can, the copy shares the file's blocks. */
const COPY = `
const fs = require("node:fs");
const [from, to, logBytes] = process.argv.slice(1);
process.umask(0o077);
fs.copyFileSync(from, to, fs.constants.COPYFILE_FICLONE);
const piece = Buffer.alloc(1 << 20);
if (Number(logBytes) > 0) {
  const [log, copy] = [fs.openSync(from + ".wal", "r"), fs.openSync(to + ".wal", "w", 0o600)];
  for (let at = 0; at < Number(logBytes); ) {
    const read = fs.readSync(log, piece, 0, Math.min(piece.length, Number(logBytes) - at), at);
    if (read === 0) process.exit(1);
    fs.writeSync(copy, piece, 0, read);
    at += read;
  }
}`;

export function logBytesOf(path: string): number {
  return statSync(`${path}.wal`, { throwIfNoEntry: false })?.size ?? 0;
}

/**
 * Invariant: from reading `logBytes` until this ends nothing is folded into the file, because the copied part of the
 * log builds on the file's content. `logBytesMax`: DuckDB holds in memory what is not folded in.
 */
export async function copyFile(
  path: string,
  { logBytes, logBytesMax }: { readonly logBytes: number; readonly logBytesMax: number },
  signal: AbortSignal,
): Promise<string> {
  expectRoom(path, logBytes);
  const folder = mkdtempSync(`${path}.query-`);
  // Under the original name, because a query may name the database.
  const copy = join(folder, basename(path));
  const ending = new AbortController();
  try {
    const copied = run([path, copy, String(logBytes)], AbortSignal.any([signal, ending.signal]));
    // The failure is handled below, unless the log was copied first.
    copied.catch(() => undefined);
    const grown = untilLog(path, logBytes + logBytesMax, ending.signal);
    if ((await Promise.race([copied, grown])) === "copied") return copy;
    throw duckdbError("MR1321", "retryable", "the DuckDB file changes faster than it can be copied for a query", {
      hint: "query again when less is written, or stop Millrace to read the file itself",
    });
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    if (signal.aborted) throw stopped();
    throw error;
  } finally {
    ending.abort();
  }
}

/** Removes the copies of killed commands. */
export function removeCopies(path: string): void {
  const prefix = `${basename(path)}.query-`;
  const isCopy = (name: string): boolean =>
    name.startsWith(prefix) && /^[A-Za-z0-9]{6}$/.test(name.slice(prefix.length));
  for (const name of readdirSync(dirname(path)).filter(isCopy)) {
    rmSync(join(dirname(path), name), { recursive: true, force: true });
  }
}

async function run(args: readonly string[], signal: AbortSignal): Promise<"copied"> {
  const child = spawn(process.execPath, ["-e", COPY, ...args], { stdio: "ignore", signal, killSignal: "SIGKILL" });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", resolve);
  });
  if (code === 0) return "copied";
  throw duckdbError("MR1321", "retryable", "the DuckDB file could not be copied for a query", {
    hint: "see whether the disk is full",
  });
}

async function untilLog(path: string, byteCount: number, signal: AbortSignal): Promise<"grown" | "ended"> {
  while (!signal.aborted) {
    if (logBytesOf(path) > byteCount) return "grown";
    await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined);
  }
  return "ended";
}

function expectRoom(path: string, logBytes: number): void {
  const { bavail, bsize } = statfsSync(dirname(path));
  const byteCount = statSync(path).size + logBytes;
  if (bavail * bsize >= byteCount + SPARE_BYTES) return;
  throw duckdbError(
    "MR1321",
    "retryable",
    "there is no room on the disk for the copy of the DuckDB file that a query reads",
    {
      hint: `make room for ${Math.ceil(byteCount / 1e6)} MB beside the file, or stop Millrace to read the file itself`,
    },
  );
}
