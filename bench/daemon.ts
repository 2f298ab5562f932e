import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import { DaemonClient } from "../src/cli/daemon-client.ts";
import type { StatusDocument } from "../src/core/contracts/status.ts";

export const MAIN = fileURLToPath(new URL("../bin/millrace.js", import.meta.url));
/** Linux counts a process's time in hundredths of a second. */
const TICKS_PER_SECOND = 100;
const WAIT_MS = 60_000;
const WATCHED_EVERY_MS = 100;
/** A long limit: a daemon under load is slow, and has to be measured all the same. */
const ANSWER_MS_MAX = 300_000;

/** The daemon under measurement, as its own process. */
export class MeasuredDaemon implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), "millrace-bench-"));
  #child: ChildProcess | null = null;
  /** The peak of resident memory, of all calls of `catchUp`. */
  peakMiB = 0;
  /** Processor time of the last one. */
  cpuSeconds = 0;

  /** The configuration, or a function that makes it from the path of its folder. */
  constructor(config: object | ((folder: string) => object)) {
    const made: object = typeof config === "function" ? config(this.folder) : config;
    writeFileSync(join(this.folder, "millrace.yaml"), stringify({ admin: { listen: false }, ...made }));
  }

  start(...args: readonly string[]): void {
    this.#child = spawn(process.execPath, [MAIN, "run", "--log-level", "warn", ...args], {
      cwd: this.folder,
      stdio: ["ignore", "ignore", "inherit"],
    });
  }

  /** Runs until every sink has reached the source's position. */
  async catchUp(): Promise<void> {
    this.start("--once");
    const watched = watchedUsage(this.pid);
    const [code] = await once(this.#child!, "exit");
    const { memoryMiB, cpuSeconds } = watched();
    this.peakMiB = Math.max(this.peakMiB, memoryMiB);
    this.cpuSeconds = cpuSeconds;
    if (code !== 0) throw new Error(`millrace run --once ended with ${String(code)}`);
    this.#child = null;
  }

  /** The status that the running daemon reports; `name` as in its configuration. */
  async status(name: string): Promise<StatusDocument | undefined> {
    return await this.ask<StatusDocument>(name, "GET", "/api/v1/status");
  }

  /** Waits until every sink of the running daemon has reached the source's present position. */
  async caughtUp(name: string): Promise<void> {
    for (;;) {
      const answer = await this.ask<{ reached: boolean }>(name, "POST", "/api/v1/wait", { timeoutMs: WAIT_MS });
      if (answer?.reached === true) return;
    }
  }

  /** Undefined when no daemon listens. */
  async ask<Answer>(name: string, method: "GET" | "POST", path: string, body?: object): Promise<Answer | undefined> {
    return await this.#client(name).ask<Answer>(method, path, body, ANSWER_MS_MAX);
  }

  #client(name: string): DaemonClient {
    return new DaemonClient({ url: `sqlite:${join(this.folder, ".millrace", `${name}.db`)}` });
  }

  /** How long a command takes beside the daemon. */
  async commandSeconds(...args: readonly string[]): Promise<number> {
    const startedMs = performance.now();
    const command = spawn(process.execPath, [MAIN, ...args], { cwd: this.folder, stdio: "ignore" });
    const [code] = await once(command, "exit");
    if (code !== 0) throw new Error(`millrace ${args.join(" ")} ended with ${String(code)}`);
    return (performance.now() - startedMs) / 1000;
  }

  /** Of the running daemon. */
  get pid(): number {
    const pid = this.#child?.pid;
    if (pid === undefined) throw new Error("no daemon runs");
    return pid;
  }

  get running(): boolean {
    return this.#child !== null;
  }

  /** The resident memory now. */
  residentMiB(): number {
    const pid = this.#child?.pid;
    return pid === undefined ? Number.NaN : mibOf(pid, "VmRSS");
  }

  /** Seconds of processor time since the process started, and the peak of its resident memory. */
  usage(): Usage {
    const pid = this.#child?.pid;
    if (pid === undefined) return { cpuSeconds: Number.NaN, memoryMiB: Number.NaN };
    return { cpuSeconds: cpuSecondsOf(pid), memoryMiB: mibOf(pid, "VmHWM") };
  }

  async stop(): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null || child.exitCode !== null) return;
    const gone = once(child, "exit");
    child.kill("SIGTERM");
    await gone;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export function cpuSecondsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

export interface Usage {
  readonly cpuSeconds: number;
  /** The peak of resident memory. */
  readonly memoryMiB: number;
}

/** Of a process that ends by itself: what it had used shortly before. The function ends the watch. */
export function watchedUsage(pid: number): () => Usage {
  let last: Usage = { cpuSeconds: 0, memoryMiB: 0 };
  const timer = setInterval(() => {
    try {
      const memoryMiB = mibOf(pid, "VmHWM");
      if (memoryMiB > 0) last = { cpuSeconds: cpuSecondsOf(pid), memoryMiB };
    } catch {
      // It has ended.
    }
  }, WATCHED_EVERY_MS);
  return () => {
    clearInterval(timer);
    return last;
  };
}

function mibOf(pid: number, line: "VmRSS" | "VmHWM"): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(new RegExp(`${line}:\\s+(\\d+)`).exec(status)?.[1] ?? Number.NaN) / 1024;
}
