/** Programs from the Python package index, fetched at first use. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cached } from "./cache.ts";
import { command } from "../processes/command.ts";

export interface PythonPackage {
  readonly name: string;
  readonly version: string;
  /** Parts that are installed only when asked for. */
  readonly extras?: readonly string[];
}

export interface PythonResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs Python where the package, and what it needs, can be imported. */
export async function python(wanted: PythonPackage, args: readonly string[], cwd: string): Promise<PythonResult> {
  const child = spawn("python3", args, {
    cwd,
    env: { ...process.env, PYTHONPATH: await pythonFolder(wanted) },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const [exitCode] = await once(child, "close");
  return { exitCode, stdout, stderr };
}

/** Python's folder with it. */
export async function pythonFolder({ name, version, extras = [] }: PythonPackage): Promise<string> {
  const parts = extras.length === 0 ? "" : `[${extras.join(",")}]`;
  return await cached([name, ...extras, version].join("-"), async (folder) => {
    const options = ["--quiet", "--only-binary", ":all:", "--target", folder];
    await command("python3", ["-m", "pip", "install", ...options, `${name}${parts}==${version}`]);
  });
}
