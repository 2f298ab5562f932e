/** Several processes with one configuration that share the tables of a log in Kafka. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { groupId } from "../../../connectors/kafka/names.ts";
import { DaemonClient } from "../../../src/cli/daemon-client.ts";
import type { StatusDocument } from "../../../src/core/contracts/status.ts";
import type { Daemon } from "../daemon/daemon-process.ts";
import { groupAt } from "./kafka-groups.ts";
import { ThroughKafka, type ThroughOptions } from "./through-kafka.ts";
import type { FreshDatabase } from "../run/services.ts";
import { eventually, patient } from "../run/waiting.ts";

const SETTLED_WITHIN_MS = 120_000;
/** For an answer, beyond the time that the daemon may take. */
const ANSWER_MS = 2_000;

export class SharedTables implements AsyncDisposable {
  readonly through: ThroughKafka;
  readonly processes: Daemon[];
  /** How many shares there are. */
  count: number;

  private constructor(through: ThroughKafka, count: number) {
    this.through = through;
    this.processes = [through.applying.daemon];
    this.count = count;
  }

  /** With one process. `prepare` makes what the database holds before. */
  static async start(
    prepare: string | ((source: FreshDatabase) => Promise<unknown>),
    options: ThroughOptions & { readonly shares: number },
  ): Promise<SharedTables> {
    return new SharedTables(await ThroughKafka.start(prepare, options), options.shares);
  }

  get source(): FreshDatabase {
    return this.through.source;
  }

  /** Another process with the same configuration. */
  add(environment: Readonly<Record<string, string>> = {}): Daemon {
    const added = this.through.applying.installation.run(environment);
    this.processes.push(added);
    return added;
  }

  async command(exitCode: number, ...args: readonly string[]): Promise<string> {
    const result = await this.through.applying.installation.command(...args);
    expect(result, `${args.join(" ")}\n${result.stdout}\n${result.stderr}`).toMatchObject({ exitCode });
    return result.stdout;
  }

  /** Talks to the daemon of a share, without the start of a command line. */
  #client(share: number): DaemonClient {
    const { folder, name } = this.through.applying.installation;
    return new DaemonClient({ url: `sqlite:${join(folder, ".millrace", `${name}-${share}.db`)}` });
  }

  async #pids(): Promise<readonly (number | undefined)[]> {
    const ask = async (_: unknown, i: number): Promise<number | undefined> => {
      // One that is stopped does not answer.
      const status = await this.#client(i + 1).ask<StatusDocument>("GET", "/api/v1/status", undefined, ANSWER_MS);
      return status?.phase === "streaming" ? status.daemon?.pid : undefined;
    };
    return await Promise.all(Array.from({ length: this.count }, ask));
  }

  /** Resolves when the processes have this many shares each, in any order, and all shares stream. */
  async spread(...counts: readonly number[]): Promise<void> {
    await eventually(
      async () => {
        const pids = await this.#pids();
        expect(pids.every((pid) => pid !== undefined)).toBe(true);
        const running = this.processes.filter(({ exited }) => !exited);
        const found = running.map((one) => childrenOf(one.pid).filter((pid) => pids.includes(pid)).length);
        expect(inOrder(found)).toEqual(inOrder(counts));
      },
      { withinMs: SETTLED_WITHIN_MS, everyMs: 200 },
    ).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${this.said()}`, { cause: error });
    });
  }

  /** Waits until all has arrived, then compares every sink with the source. */
  async expectEqual(tables: readonly string[]): Promise<void> {
    const { applying } = this.through;
    const body = { timeoutMs: patient(SETTLED_WITHIN_MS) };
    const withinMs = body.timeoutMs + ANSWER_MS;
    for (let share = 1; share <= this.count; share++) {
      const answer = await this.#client(share).ask<object>("POST", "/api/v1/wait", body, withinMs);
      expect(answer, this.said()).toMatchObject({ reached: true });
    }
    const differences = await applying.sinks.differences(this.source.url, applying.installation.folder, tables);
    expect(differences, this.said()).toEqual([]);
  }

  /** How many processes the broker takes for members of the group. */
  async memberCount(): Promise<number | undefined> {
    const { topics, source, applying } = this.through;
    const id = groupId({ prefix: topics.prefix, daemon: source.name }, applying.installation.name);
    return (await groupAt(topics.broker, id))?.memberCount;
  }

  /** What the processes logged last. */
  said(): string {
    return this.processes.map(({ pid, said }) => `${pid}: ${said.slice(-2_500)}`).join("\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const running = this.processes.filter(({ exited }) => !exited);
    for (const one of running) one.signal("SIGCONT");
    await Promise.all(running.map((one) => one.stop()));
    await this.through[Symbol.asyncDispose]();
  }
}

/** Process ids of the daemons that a process has started. */
export function childrenOf(pid: number): readonly number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
    return text === "" ? [] : text.split(" ").map(Number);
  } catch {
    // The process has ended.
    return [];
  }
}

function inOrder(numbers: readonly number[]): readonly number[] {
  return numbers.toSorted((a, b) => a - b);
}

export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
