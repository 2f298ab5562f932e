import { spawn } from "node:child_process";
import { PROGRAM } from "../run/program.ts";

const TIMEOUT_MS = 60_000;

export interface CliResult {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CliOptions {
  readonly folder: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** Default: that of the checkout. */
  readonly program?: string;
  /** It is killed after it; for commands that go on trying. */
  readonly timeoutMs?: number;
}

/** Runs the command line as its own process to its end. */
export async function runCli(args: readonly string[], options: CliOptions): Promise<CliResult> {
  const { folder, environment = {}, program = PROGRAM, timeoutMs = TIMEOUT_MS } = options;
  const { PATH, HOME, NODE_COMPILE_CACHE } = process.env;
  const child = spawn(process.execPath, [program, ...args], {
    cwd: folder,
    env: { PATH, HOME, NODE_COMPILE_CACHE, ...environment },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: timeoutMs,
    killSignal: "SIGKILL",
  });
  const read = async (stream: NodeJS.ReadableStream) => {
    let text = "";
    for await (const chunk of stream) text += String(chunk);
    return text;
  };
  const closed = new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve(code));
  });
  const [stdout, stderr, exitCode] = await Promise.all([read(child.stdout), read(child.stderr), closed]);
  return { exitCode, stdout, stderr };
}
