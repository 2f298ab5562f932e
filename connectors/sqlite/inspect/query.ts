/** Runs one reading statement in a process of its own, which ends when the time is up: SQLite's calls can't be interrupted. */
import { fork } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { QueryRequest, QueryResult } from "../../../src/core/contracts/sink.ts";
import { sqliteError, stopped } from "../errors.ts";
import type { QueryAnswer } from "./query-host.ts";

export async function queryFile(path: string, request: QueryRequest, signal: AbortSignal): Promise<QueryResult> {
  if (!existsSync(path)) {
    throw sqliteError("MR3203", "fatal", `there is no SQLite file ${path} yet`, {
      hint: "start `millrace run`: it creates and fills the file",
    });
  }
  if (signal.aborted) throw stopped();
  const own = import.meta.url;
  const host = fileURLToPath(new URL(own.endsWith(".ts") ? "./query-host.ts" : "./query-host.js", own));
  const child = fork(host, [], {
    execArgv: ["--disable-warning=ExperimentalWarning"],
    serialization: "advanced",
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  const kill = (): void => void child.kill("SIGKILL");
  signal.addEventListener("abort", kill);
  try {
    const answer = await new Promise<QueryAnswer | null>((resolve, reject) => {
      child.once("message", (message: QueryAnswer) => resolve(message));
      child.once("error", reject);
      child.once("exit", () => resolve(null));
      child.send({ path, request });
    });
    if (answer === null) {
      if (signal.aborted) throw stopped();
      throw sqliteError("MR2027", "fatal", "the process of the query ended without an answer");
    }
    if ("result" in answer) return answer.result;
    // The user wrote the SQL and may see its data, so SQLite's own message is the answer.
    throw sqliteError("MR1321", "fatal", answer.refused, { hint: answer.hint });
  } finally {
    signal.removeEventListener("abort", kill);
    kill();
  }
}
