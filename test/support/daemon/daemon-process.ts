import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { expect, onTestFailed, TestRunner } from "vitest";
import { stringify } from "yaml";
import * as z from "zod";
import { DaemonClient } from "../../../src/cli/daemon-client.ts";
import type { StatusDocument } from "../../../src/core/contracts/status.ts";
import { Administrator, isLeastMode, withPlainRoles } from "../postgres/least-mode.ts";
import { PROGRAM } from "../run/program.ts";
import { eventually, patient } from "../run/waiting.ts";
import { openApi } from "../../../src/ops/admin/openapi.ts";

interface Operation {
  readonly responses: Readonly<Record<string, { readonly content: Readonly<Record<string, { schema: object }>> }>>;
}

// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the document has this form
const { paths } = openApi("0.0.0") as { paths: Readonly<Record<string, Readonly<Record<string, Operation>>>> };
const known = new Map<string, z.ZodType>();

/** Of a path that the document describes; what only the Unix socket serves is not described. */
function expectDocumented(method: string, path: string, answer: unknown): void {
  const route = `${method} ${path}`;
  const schema = paths[path]?.[method.toLowerCase()]?.responses["200"]?.content["application/json"]?.schema;
  if (schema === undefined) return;
  const checked = known.get(route) ?? z.fromJSONSchema({ ...closed(schema) });
  known.set(route, checked);
  const { error } = checked.safeParse(answer);
  expect(error === undefined ? "" : `${route}: ${z.prettifyError(error)}`, "as openapi.json says").toBe("");
}

/** The same, without fields that the document does not name. */
function closed(schema: object): object {
  const entries = Object.entries(schema).map(([key, value]) => [key, within(value)]);
  return { ...Object.fromEntries(entries), ...("properties" in schema ? { additionalProperties: false } : {}) };
}

function within(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(within);
  return typeof value === "object" && value !== null ? closed(value) : value;
}

/** Tests wait for longer than people do. */
const ANSWER_MS_MAX = 180_000;
/** A daemon that was started listens after it has taken its lease. */
const LISTENS_WITHIN_MS = 15_000;
const LISTENS_POLL_MS = 50;
const LOCKED_MS = 10_000;
const LEAST_PROGRAM = fileURLToPath(new URL("../postgres/least-program.ts", import.meta.url));
/** Commands that would fail, or say less, without what an administrator has still to give. */
const AFTER_GRANTS = new Set(["run", "wait", "snapshot", "tail"]);

export interface CommandResult {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** As in millrace.yaml. */
export interface InstallationConfig {
  readonly name: string;
  readonly source?: object;
  readonly state?: string | object;
  readonly sinks?: object;
  readonly tables?: object;
  readonly documents?: object;
  readonly reconcile?: object;
  readonly notify?: object;
  readonly maskKey?: string;
  readonly admin?: object;
}

/** A folder with a millrace.yaml, and the real command line on it: the daemon and what operators ask of it. */
export class Installation implements AsyncDisposable {
  readonly folder: string;
  /** The daemon's, after which its slot and publication are named. */
  readonly name: string;
  readonly #client: DaemonClient;
  #newest: Daemon | undefined;
  readonly #running = new Set<ChildProcess>();
  readonly #administrator: Administrator | undefined;

  /** `config` as in millrace.yaml; the admin address is off unless it says otherwise. */
  constructor(config: InstallationConfig) {
    this.folder = mkdtempSync(join(tmpdir(), "millrace-test-"));
    this.name = config.name;
    this.#administrator = isLeastMode ? new Administrator(this.folder) : undefined;
    this.#client = new DaemonClient({ url: `sqlite:${join(this.folder, ".millrace", `${config.name}.db`)}` });
    this.configure(config);
  }

  configure(config: InstallationConfig): void {
    const entered = isLeastMode ? withPlainRoles(config) : config;
    this.text = stringify({ admin: { listen: false }, ...entered });
  }

  /** Its millrace.yaml. */
  get text(): string {
    return readFileSync(join(this.folder, "millrace.yaml"), "utf8");
  }

  set text(text: string) {
    writeFileSync(join(this.folder, "millrace.yaml"), text, { mode: 0o600 });
  }

  /** As if a daemon that was stopped by a signal had hung for longer than its lease lasts. */
  endLease(): void {
    using state = new DatabaseSync(join(this.folder, ".millrace", `${this.name}.db`), { timeout: LOCKED_MS });
    state.exec("update lease set expires_at_ms = 1");
  }

  /** Starts the daemon; it may still fail. */
  run(environment: Readonly<Record<string, string>> = {}, ...args: readonly string[]): Daemon {
    return this.runProgram(PROGRAM, environment, "run", ...args);
  }

  /** Starts a program of the tests in place of the command line. */
  runProgram(path: string, environment: Readonly<Record<string, string>>, ...args: readonly string[]): Daemon {
    this.#administrator?.begin();
    const whole = isLeastMode ? [LEAST_PROGRAM, path, ...args] : [path, ...args];
    return (this.#newest = new Daemon(this, this.#spawn(whole, environment)));
  }

  /** One command to its end. */
  async command(...args: readonly string[]): Promise<CommandResult> {
    if (AFTER_GRANTS.has(args[0] ?? "")) await this.#administrator?.look();
    return await ended(this.#spawn([PROGRAM, ...args], {}));
  }

  /** What a running daemon says at its socket, without the start of a command line; undefined: nobody listens. */
  async ask<Answer>(
    method: "GET" | "POST",
    path: string,
    body?: object,
    withinMs = ANSWER_MS_MAX,
  ): Promise<Answer | undefined> {
    // What is asked for may be of a table that was made just now.
    if (method === "POST") await this.#administrator?.look();
    const answer = await this.#client.ask<Answer>(method, path, body, patient(withinMs));
    if (answer !== undefined) expectDocumented(method, path, answer);
    return answer;
  }

  /** What the daemon says, as soon as it listens. Where none runs, what the command reads in the state. */
  async status(): Promise<StatusDocument> {
    const deadline = performance.now() + patient(LISTENS_WITHIN_MS);
    for (;;) {
      const status = await this.ask<StatusDocument>("GET", "/api/v1/status");
      if (status !== undefined) return status;
      if (this.#newest?.exited !== false || performance.now() > deadline) break;
      // A command would cost more than the rest of the start.
      await delay(LISTENS_POLL_MS);
    }
    const { stdout } = await this.command("status", "--json");
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the program's own output, in its documented shape
    return JSON.parse(stdout) as StatusDocument;
  }

  #spawn(args: readonly string[], environment: Readonly<Record<string, string>>): ChildProcess {
    const child = spawn(process.execPath, args, {
      cwd: this.folder,
      env: { ...process.env, NODE_COMPILE_CACHE: process.env["MILLRACE_TEST_COMPILED"] ?? "", ...environment },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#running.add(child);
    child.once("exit", () => this.#running.delete(child));
    return child;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#administrator?.[Symbol.asyncDispose]();
    const left = [...this.#running];
    for (const child of left) child.kill("SIGKILL");
    await Promise.all(left.map((child) => once(child, "exit")));
    rmSync(this.folder, { recursive: true, force: true });
  }
}

interface Settled {
  readonly reached: boolean;
  readonly missing: readonly string[];
}

/** A daemon that was started as its own process. */
export class Daemon {
  readonly #installation: Installation;
  readonly #child: ChildProcess;
  readonly ended: Promise<CommandResult>;
  #stderr = "";

  constructor(installation: Installation, child: ChildProcess) {
    this.#installation = installation;
    this.#child = child;
    this.ended = ended(child);
    child.stderr?.on("data", (text: string) => (this.#stderr += text));
    tellOfFailure(this);
  }

  /** What it has logged so far. */
  get said(): string {
    return this.#stderr;
  }

  /** Resident memory now, as the system counts it. */
  get residentBytes(): number {
    const found = /^VmRSS:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${this.pid}/status`, "utf8"));
    return Number(found?.[1] ?? 0) * 1024;
  }

  get pid(): number {
    return this.#child.pid!;
  }

  get exited(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** Resolves when every sink streams; fails at once when the daemon ends. */
  async streaming(withinMs = 60_000): Promise<StatusDocument> {
    const status = await eventually(
      async () => {
        if (this.exited) return null;
        const found = await this.#installation.ask<StatusDocument>("GET", "/api/v1/status");
        if (found === undefined) throw new Error("it does not listen yet");
        const isStreaming = found.phase === "streaming" && found.sinks.every((sink) => sink.state === "streaming");
        if (!isStreaming) throw new Error(`not streaming yet: ${JSON.stringify(found)}`);
        return found;
      },
      { withinMs },
    );
    if (status === null) throw new Error(`the daemon has ended: ${(await this.ended).stderr}`);
    return status;
  }

  /** Resolves when all that was committed is in every sink; fails with what is missing. */
  async settled(withinMs: number): Promise<void> {
    const body = { timeoutMs: patient(withinMs) };
    // One that begins again is asked again, as by `millrace wait`.
    const answer = await eventually(async () => {
      const found = await this.#installation.ask<Settled>("POST", "/api/v1/wait", body, withinMs + ANSWER_MS_MAX);
      if (found === undefined && !this.exited) throw new Error("it does not listen");
      return found;
    });
    if (answer?.reached !== true) expect({ missing: answer?.missing, said: this.complaints() }).toBe("settled");
  }

  /** What it logged above `info`. */
  complaints(): string[] {
    const lines = this.said.split("\n").filter((line) => line !== "" && !/"level":"(info|debug)"/.test(line));
    return lines.slice(-6).map((line) => line.slice(0, 700));
  }

  /** `differences` between sinks and source: fails with what it logged. */
  expectNone(differences: readonly unknown[]): void {
    const said = differences.length === 0 ? [] : this.complaints();
    expect({ differences, said }).toEqual({ differences: [], said: [] });
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  /** Nobody reads what it logs from here on. */
  loseLog(): void {
    this.#child.stderr?.destroy();
  }

  async kill(): Promise<CommandResult> {
    this.#child.kill("SIGKILL");
    return await this.ended;
  }

  async stop(): Promise<CommandResult> {
    this.#child.kill("SIGTERM");
    return await this.ended;
  }
}

const LAST_LINES = 12;
const LINE_CHARACTERS_MAX = 400;

/** Of the test that runs: the others were killed on purpose, most of the time. */
let newest: Daemon | undefined;

/** What the newest daemon of a failed test said last stands in its error: it may not fail a second time. */
function tellOfFailure(daemon: Daemon): void {
  if (TestRunner.getCurrentTest() === undefined) return;
  newest = daemon;
  onTestFailed(({ task }) => {
    const [error] = task.result?.errors ?? [];
    if (error === undefined || daemon !== newest) return;
    const lines = daemon.said.trimEnd().split("\n").slice(-LAST_LINES);
    const shortened = lines.map((line) => line.slice(0, LINE_CHARACTERS_MAX));
    error.message += `\nthe daemon said last:\n${shortened.join("\n")}`;
  });
}

async function ended(child: ChildProcess): Promise<CommandResult> {
  let stdout = "";
  let stderr = "";
  child.stdout?.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  await once(child, "close");
  return { exitCode: child.exitCode, signal: child.signalCode, stdout, stderr };
}
