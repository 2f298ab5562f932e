/** Millrace as a separate process, started by its command line under a guard that ends it together with the demo. */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { startGuarded, type GuardedService } from "../services/processes/guarded.ts";
import { waitUntilReady } from "../services/processes/ready.ts";

const MAIN = join(import.meta.dirname, "../../bin/millrace.js");
const run = promisify(execFile);
const STOP_WITHIN_MS = 60_000;
const LOG_TAIL_LINES = 20;

export interface DaemonPlace {
  /** Holds millrace.yaml, the state and the warehouse; deleted at the end. */
  readonly folder: string;
  readonly adminPort: number;
}

export function startDaemon({ folder, adminPort }: DaemonPlace): Promise<GuardedService> {
  const url = `http://127.0.0.1:${adminPort}`;
  return startGuarded({
    name: "daemon",
    url,
    host: "127.0.0.1",
    port: adminPort,
    dataDir: folder,
    removeDirs: [folder],
    process: {
      command: process.execPath,
      args: [MAIN, "run"],
      env: { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? folder },
      cwd: folder,
      logPath: join(folder, "daemon.log"),
      user: undefined,
    },
    stopSteps: [{ signal: "SIGTERM", waitMs: STOP_WITHIN_MS }],
    endSteps: [{ signal: "SIGTERM", waitMs: 3_000 }],
    ready: (signal) => waitUntilReady(() => answers(url), signal),
  });
}

async function answers(url: string): Promise<void> {
  const response = await fetch(`${url}/healthz`, { signal: AbortSignal.timeout(1_000) });
  await response.body?.cancel();
  if (!response.ok) throw new Error(`healthz answered ${response.status}`);
}

export interface CommandResult {
  readonly isDone: boolean;
  /** Its output for people. */
  readonly output: string;
}

/** Runs another of Millrace's commands to its end. */
export async function millrace(folder: string, ...args: readonly string[]): Promise<CommandResult> {
  try {
    const { stdout } = await run(process.execPath, [MAIN, ...args], { cwd: folder });
    return { isDone: true, output: stdout.trimEnd() };
  } catch (error) {
    if (!(error instanceof Error) || !("stdout" in error) || !("stderr" in error)) throw error;
    return { isDone: false, output: `${String(error.stdout)}${String(error.stderr)}`.trimEnd() };
  }
}

export function daemonLog(folder: string): string {
  return readFileSync(join(folder, "daemon.log"), "utf8").trimEnd().split("\n").slice(-LOG_TAIL_LINES).join("\n");
}
