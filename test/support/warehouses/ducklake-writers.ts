import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { eventually } from "../run/waiting.ts";
import type { LakeTarget } from "./ducklake-target.ts";

const WRITER = fileURLToPath(new URL("./ducklake-writer.ts", import.meta.url));

/** A process that writes batches, and its lines. */
export class Writer implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor({ options: { place } }: LakeTarget, lease: number, failpoints = "") {
    const args = [WRITER, `${place.kind}:${place.catalog}`, place.data, String(lease)];
    this.#process = spawn(process.execPath, args, {
      stdio: ["ignore", "pipe", "inherit"],
      env: { ...process.env, MILLRACE_FAILPOINTS: failpoints },
    });
    this.#lines = createInterface(this.#process.stdout!)[Symbol.asyncIterator]();
  }

  async next(): Promise<string> {
    return (await this.#lines.next()).value ?? "";
  }

  /** Waits until the process ends by itself. */
  async last(): Promise<string> {
    let last = "";
    for (let line = await this.next(); line !== ""; line = await this.next()) last = line;
    return last;
  }

  /** Waits until it was killed at its failpoint. */
  async ended(): Promise<void> {
    if (this.#process.signalCode === null) await once(this.#process, "exit");
  }

  signal(name: "SIGCONT" | "SIGSTOP"): void {
    this.#process.kill(name);
  }

  /** Stops it by SIGSTOP. */
  async freeze(): Promise<void> {
    this.signal("SIGSTOP");
    await eventually(() => /\) T /.test(readFileSync(`/proc/${this.#process.pid}/stat`, "latin1")));
  }

  async kill(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    this.#process.kill("SIGKILL");
    await once(this.#process, "exit");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}
