/** Schemathesis: it sends what an OpenAPI document allows, and what it forbids. */
import { python } from "../packages/python.ts";

const SCHEMATHESIS = { name: "schemathesis", version: "4.32.5" };

/** Runs it against a document; resolves with its exit code and what it says. */
export async function schemathesis(args: readonly string[], cwd: string): Promise<{ exitCode: number; said: string }> {
  const { exitCode, stdout, stderr } = await python(
    SCHEMATHESIS,
    ["-m", "schemathesis.cli", "--no-color", ...args],
    cwd,
  );
  return { exitCode, said: stdout + stderr };
}
