/** A daemon under load whose sinks go away, get slow and come back, on a server of its own whose slots are few. */
import { expect } from "vitest";
import type { StatusDocument } from "../../../src/core/contracts/status.ts";
import type { Daemon } from "../daemon/daemon-process.ts";
import { Load, Victim } from "./fault-load.ts";
import { testSeed } from "../run/random.ts";
import { type FreshDatabase, freshDatabase, ownPostgres } from "../run/services.ts";
import type { SinkKind } from "../daemon/sink-set.ts";
import { temporarySlots } from "./slots.ts";
import { eventually } from "../run/waiting.ts";

const WITHIN_MS = 90_000;
const PAUSE_MS = 15;
const WAIT_SECONDS = 170;
export const BULK_TABLE = "bulk";

export type SinkState = StatusDocument["sinks"][number];

export class DetachScene implements AsyncDisposable {
  readonly source: FreshDatabase;
  readonly load: Load;
  readonly victim: Victim;
  daemon: Daemon;
  readonly seed: number;
  readonly #stack: AsyncDisposableStack;
  #bulkCount = 0;

  private constructor(seed: number, load: Load, victim: Victim, stack: AsyncDisposableStack) {
    this.seed = seed;
    this.source = load.source;
    this.load = load;
    this.victim = victim;
    this.#stack = stack;
    this.daemon = victim.run();
  }

  /** `settings` of the source's server. */
  static async create(kinds: readonly SinkKind[], settings: Readonly<Record<string, number>>): Promise<DetachScene> {
    await using stack = new AsyncDisposableStack();
    const seed = testSeed();
    const server = stack.use(await ownPostgres({ settings }));
    const load = stack.use(await Load.create(seed, 200, await freshDatabase(server)));
    await load.addTable(BULK_TABLE);
    const victim = stack.use(await Victim.create(load, "parked", kinds, true));
    const scene = new DetachScene(seed, load, victim, stack.move());
    await scene.daemon.streaming();
    load.start(PAUSE_MS);
    return scene;
  }

  status(): Promise<StatusDocument> {
    return this.victim.installation.status();
  }

  async leave(kind: SinkKind): Promise<void> {
    const proxy = this.victim.sinks.proxies.get(kind)!;
    await proxy.refuse();
    proxy.cut();
  }

  /** Leaves, and waits until that is noticed. */
  async away(kind: SinkKind): Promise<void> {
    await this.leave(kind);
    await this.until((status) => sinkOf(status, kind).state === "retrying");
  }

  async back(kind: SinkKind, bytesPerSecond?: number): Promise<void> {
    const proxy = this.victim.sinks.proxies.get(kind)!;
    await proxy.resume();
    if (bytesPerSecond !== undefined) proxy.limit(bytesPerSecond);
  }

  async until(holds: (status: StatusDocument) => boolean): Promise<StatusDocument> {
    return await eventually(
      async () => {
        const status = await this.status();
        if (!holds(status)) throw new Error(JSON.stringify(status));
        return status;
      },
      { withinMs: WITHIN_MS },
    );
  }

  /** One transaction of so many rows of 960 bytes each. */
  async bulk(rowCount: number): Promise<void> {
    const from = (this.#bulkCount += 1_000_000);
    await this.source.query(
      `insert into ${BULK_TABLE} (id, body) select g, repeat(md5(g::text), 30) from generate_series(${from}, ${from + rowCount - 1}) g`,
    );
  }

  async kill(environment: Readonly<Record<string, string>> = {}): Promise<void> {
    await this.victim.kill(this.daemon);
    this.daemon = this.victim.run(environment);
  }

  async restart(): Promise<void> {
    await eventually(async () => (await this.victim.installation.ask("GET", "/api/v1/status")) !== undefined);
    const { exitCode, stderr } = await this.daemon.stop();
    expect(exitCode, stderr.slice(-2_000)).toBe(0);
    this.daemon = this.victim.run();
  }

  /** Everything has arrived, row by row, nothing twice, and no slot is left behind. */
  async expectEqual(): Promise<void> {
    await this.load.stop();
    const { faults, effectCount } = await this.victim.verdict(this.daemon, WAIT_SECONDS);
    expect(faults).toEqual([]);
    expect(effectCount).toBeGreaterThan(20);
    await eventually(async () => expect(await temporarySlots(this.source)).toEqual([]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack[Symbol.asyncDispose]();
  }
}

export function sinkOf(status: StatusDocument, name: string): SinkState {
  const found = status.sinks.find((sink) => sink.name === name);
  if (found === undefined) throw new Error(`status knows no sink ${name}`);
  return found;
}

/** Nobody is away, nobody catches up, nobody waits. */
export function allStream({ source, sinks }: StatusDocument): boolean {
  const areWell = sinks.every(({ state, catchingUp, error }) => state === "streaming" && !catchingUp && error === null);
  return areWell && source.goneBack === null;
}
