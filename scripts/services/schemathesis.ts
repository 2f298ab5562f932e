/** Schemathesis, from the Python package index: it sends what an OpenAPI document allows, and what it forbids. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cached } from "./cache.ts";
import { command } from "./command.ts";

const VERSION = "4.32.5";

/** Runs it against a document; resolves with its exit code and what it says. */
export async function schemathesis(args: readonly string[], cwd: string): Promise<{ exitCode: number; said: string }> {
  const child = spawn("python3", ["-m", "schemathesis.cli", "--no-color", ...args], {
    cwd,
    env: { ...process.env, PYTHONPATH: await installed() },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (said += String(text)));
  const [exitCode] = await once(child, "close");
  return { exitCode, said };
}

/** Python's folder with it and what it needs; fetched at first use. */
async function installed(): Promise<string> {
  return await cached(`schemathesis-${VERSION}`, async (folder) => {
    const options = ["--quiet", "--only-binary", ":all:", "--target", folder];
    await command("python3", ["-m", "pip", "install", ...options, `schemathesis==${VERSION}`]);
  });
}
