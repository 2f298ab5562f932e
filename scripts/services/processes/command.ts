/** Runs a tool to its end and keeps its output for an error message. */
import { spawn } from "node:child_process";
import { accessSync, closeSync, constants, openSync } from "node:fs";
import { basename, delimiter, join } from "node:path";

export interface CommandOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly user?: { readonly uid: number; readonly gid: number } | undefined;
  /** A file for standard input; default: none. */
  readonly inputPath?: string;
}

const ERROR_TAIL_BYTES = 4_000;

/** Returns standard output; if the tool fails, throws with the end of its output. */
export async function command(file: string, args: readonly string[], options: CommandOptions = {}): Promise<string> {
  const input = options.inputPath === undefined ? undefined : openSync(options.inputPath, "r");
  const child = spawn(file, [...args], {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: [input ?? "ignore", "pipe", "pipe"],
    ...(options.user === undefined ? {} : { uid: options.user.uid, gid: options.user.gid }),
  });
  if (input !== undefined) closeSync(input);
  let out = "";
  let said = "";
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    out += text;
    said = (said + text).slice(-ERROR_TAIL_BYTES);
  });
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    said = (said + text).slice(-ERROR_TAIL_BYTES);
  });
  const { code, signal } = await new Promise<{ code: number | null; signal: string | null }>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (exitCode, exitSignal) => resolve({ code: exitCode, signal: exitSignal }));
  });
  if (code !== 0) throw new Error(`${basename(file)} ended with ${signal ?? code}:\n${said.trim()}`);
  return out;
}

/** The full path of a program that the shell would find, or undefined. */
export function onPath(program: string): string | undefined {
  for (const dir of (process.env["PATH"] ?? "").split(delimiter)) {
    const path = join(dir, program);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // The program is not in this folder.
    }
  }
  return undefined;
}
