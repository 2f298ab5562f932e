import { spawn } from "node:child_process";
import { vi } from "vitest";
import { PROGRAM } from "../run/program.ts";
import { patient } from "../run/waiting.ts";

const TIMEOUT_MS = 60_000;

const HERE_TIMEOUT_MS = 20_000;

export interface CliResult {
  /** Null: it did not end in time. */
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

/** The same in this process, which saves its start. One at a time. */
export async function runHere(
  args: readonly string[],
  { folder, environment = {} }: Pick<CliOptions, "folder" | "environment">,
): Promise<CliResult> {
  const { cli } = await import("../../../src/cli/cli.ts");
  const said = { stdout: "", stderr: "" };
  const spies = (["stdout", "stderr"] as const).map((name) =>
    vi.spyOn(process[name], "write").mockImplementation((text) => {
      said[name] += String(text);
      return true;
    }),
  );
  for (const [name, value] of Object.entries(environment)) vi.stubEnv(name, value);
  const before = process.cwd();
  const listeners = process.listeners("uncaughtException");
  const { promise, resolve } = Promise.withResolvers<null>();
  const timer = setTimeout(() => resolve(null), patient(HERE_TIMEOUT_MS));
  process.chdir(folder);
  try {
    const exitCode = await Promise.race([cli(args), promise]);
    return { exitCode, ...said };
  } finally {
    process.chdir(before);
    clearTimeout(timer);
    vi.unstubAllEnvs();
    for (const spy of spies) spy.mockRestore();
    for (const listener of process.listeners("uncaughtException"))
      if (!listeners.includes(listener)) process.off("uncaughtException", listener);
  }
}
