/**
 * DuckDB's engine in a process of its own. An engine that ends its process fails the calls that wait for it, and no other
 * sink. This process does not load DuckDB for it.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { DuckDBValue, Json } from "@duckdb/node-api";
import type { MillraceError } from "../../../src/core/errors.ts";
import { lacksHandles, moreHandles, systemErrorCode } from "../../../src/core/system-errors.ts";
import { engineError } from "./errors.ts";
import type { Engine, EngineConnection, EngineOptions, EngineResult } from "./engine.ts";

export type Request =
  | { readonly kind: "open"; readonly path: string; readonly options: EngineOptions }
  | { readonly kind: "connect" | "interrupt" | "disconnect"; readonly connection: number }
  | { readonly kind: "run" | "read"; readonly connection: number; readonly sql: string; readonly values: DuckDBValue[] }
  | { readonly kind: "stream"; readonly connection: number; readonly stream: number; readonly sql: string }
  | { readonly kind: "pull" | "drop"; readonly stream: number }
  | { readonly kind: "close" };

export type Answer =
  | { readonly kind: "done"; readonly rowsChanged: number }
  | { readonly kind: "rows"; readonly rows: Json[][] }
  /** Of a stream that was read whole. */
  | { readonly kind: "end" }
  /** Not known: with DuckDB's own message. */
  | {
      readonly kind: "failed";
      readonly message: string;
      readonly known?: Pick<MillraceError, "code" | "kind" | "hint" | "reason">;
    };

/** Signals that only somebody outside of the process sends: the system when memory is short, or a person. */
const FROM_OUTSIDE: ReadonlySet<string> = new Set(["SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"]);

interface PendingCall {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
}

export class EngineProcess implements Engine {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, PendingCall>();
  readonly #ended: Promise<void>;
  #last = 0;
  /** It has answered. */
  #hasBegun = false;
  /** The process is gone, or going. */
  #isOver = false;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#child.on("message", (message: { readonly id: number; readonly answer: Answer }) => {
      this.#hasBegun = true;
      const waiting = this.#waiting.get(message.id);
      this.#waiting.delete(message.id);
      waiting?.resolve(message.answer);
    });
    this.#ended = new Promise((resolve) => {
      const over = (error: Error): void => {
        this.#isOver = true;
        for (const { reject } of this.#waiting.values()) reject(error);
        this.#waiting.clear();
        resolve();
      };
      this.#child.once("exit", (code, signal) => {
        over(code === null || this.#hasBegun ? ended(code, signal) : notBegun(`exit code ${code}`, CHANGED));
      });
      this.#child.on("error", over);
    });
  }

  static async open(path: string, options: EngineOptions): Promise<EngineProcess> {
    const engine = new EngineProcess(await begin());
    try {
      await engine.ask({ kind: "open", path, options });
      return engine;
    } catch (error) {
      engine.#child.kill("SIGKILL");
      await engine.#ended;
      throw error;
    }
  }

  async ask(request: Request): Promise<Exclude<Answer, { kind: "failed" }>> {
    if (this.#isOver) throw gone();
    const id = ++this.#last;
    const answer = await new Promise<Answer>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#child.send({ id, request }, (unsent) => {
        // Why it has ended those are told that wait for an answer.
        if (unsent !== null && this.#waiting.delete(id)) reject(gone());
      });
    });
    if (answer.kind !== "failed") return answer;
    const { known, message } = answer;
    throw known === undefined ? new Error(message) : engineError(known.code, known.kind, message, known);
  }

  /** For what has no answer. A process that has ended needs it no more. */
  tell(request: Request): void {
    if (!this.#isOver && this.#child.connected) this.#child.send({ id: 0, request }, () => undefined);
  }

  async connect(): Promise<EngineConnection> {
    const connection = ++this.#last;
    await this.ask({ kind: "connect", connection });
    return new RemoteConnection(this, connection);
  }

  async close(): Promise<void> {
    await this.ask({ kind: "close" }).catch(() => undefined);
    this.#isOver = true;
    this.#child.kill("SIGKILL");
    await this.#ended;
  }

  next(): number {
    return ++this.#last;
  }
}

class RemoteConnection implements EngineConnection {
  readonly #engine: EngineProcess;
  readonly #connection: number;

  constructor(engine: EngineProcess, connection: number) {
    this.#engine = engine;
    this.#connection = connection;
  }

  async run(sql: string, values: DuckDBValue[] = []): Promise<{ readonly rowsChanged: number }> {
    const answer = await this.#engine.ask({ kind: "run", connection: this.#connection, sql, values });
    return { rowsChanged: answer.kind === "done" ? answer.rowsChanged : 0 };
  }

  async runAndReadAll(sql: string, values: DuckDBValue[] = []): Promise<{ getRowsJson(): Json[][] }> {
    const answer = await this.#engine.ask({ kind: "read", connection: this.#connection, sql, values });
    const rows = answer.kind === "rows" ? answer.rows : [];
    return { getRowsJson: () => rows };
  }

  async stream(sql: string): Promise<EngineResult> {
    const stream = this.#engine.next();
    await this.#engine.ask({ kind: "stream", connection: this.#connection, stream, sql });
    return new RemoteResult(this.#engine, stream);
  }

  interrupt(): void {
    this.#engine.tell({ kind: "interrupt", connection: this.#connection });
  }

  disconnectSync(): void {
    this.#engine.tell({ kind: "disconnect", connection: this.#connection });
  }
}

class RemoteResult implements EngineResult {
  readonly #engine: EngineProcess;
  readonly #stream: number;
  /** The other side reads it whole, or fails. */
  readonly returnType = null;

  constructor(engine: EngineProcess, stream: number) {
    this.#engine = engine;
    this.#stream = stream;
  }

  yieldRows(): AsyncIterableIterator<unknown[][]> {
    return this.#rows();
  }

  yieldRowsJson(): AsyncIterableIterator<Json[][]> {
    return this.#rows();
  }

  async *#rows(): AsyncIterableIterator<Json[][]> {
    try {
      for (;;) {
        const answer = await this.#engine.ask({ kind: "pull", stream: this.#stream });
        if (answer.kind !== "rows") return;
        yield answer.rows;
      }
    } finally {
      this.#engine.tell({ kind: "drop", stream: this.#stream });
    }
  }
}

async function begin(): Promise<ChildProcess> {
  const own = import.meta.url;
  const host = fileURLToPath(new URL(own.endsWith(".ts") ? "./engine-host.ts" : "./engine-host.js", own));
  try {
    // What DuckDB prints when it ends its process can hold cell values.
    const child = fork(host, [], {
      execArgv: [],
      serialization: "advanced",
      stdio: ["ignore", "ignore", "ignore", "ipc"],
    });
    await once(child, "spawn");
    return child;
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === undefined) throw error;
    throw notBegun(code, lacksHandles(code) ? moreHandles() : code === "ENOENT" ? CHANGED : SHORT, error);
  }
}

const CHANGED =
  "The installation was changed under the daemon, or lacks a part: start the daemon again, or install Millrace again.";
const SHORT = "See whether the machine, or the container, allows more processes and has memory for one.";

function notBegun(why: string, hint: string, cause?: unknown): Error {
  return engineError("MR2027", "blocked", `the process for DuckDB did not begin (${why})`, { hint, cause });
}

/** For calls that waited when the process ended. */
function ended(code: number | null, signal: NodeJS.Signals | null): Error {
  const how = signal ?? `exit code ${code}`;
  if (signal !== null && FROM_OUTSIDE.has(signal)) {
    return engineError("MR3216", "retryable", `DuckDB's process was ended by ${how} from outside`, {
      reason: "lost",
      hint: "see whether the machine or the container has enough memory",
    });
  }
  return engineError("MR3235", "retryable", `DuckDB ended its process (${how})`, {
    reason: "lost",
    hint: "Millrace repeats the batch",
  });
}

/** For later calls: they had no part in it. */
function gone(): Error {
  return engineError("MR3216", "retryable", "DuckDB's process has ended; it is started again", { reason: "lost" });
}
