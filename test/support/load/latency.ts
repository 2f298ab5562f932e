/** How long a committed row takes until a reader of a Postgres target sees it. */
import { setTimeout as sleep } from "node:timers/promises";
import type { FreshDatabase } from "../run/fresh-database.ts";

export const PROBE_TABLE = "probe";
const CHANNEL = "probe_seen";

/** Writes a row every few milliseconds, in transactions of their own, and is told by the target when each is there. */
export class LatencyProbe implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack();
  readonly #committedMs = new Map<number, number>();
  #latenciesMs: number[] = [];
  #stopped = false;
  #writing: Promise<void> = Promise.resolve();

  /** Before the daemon's first start: the target's table is made here, with a trigger that tells. */
  static async create(source: FreshDatabase, target: FreshDatabase, everyMs: number): Promise<LatencyProbe> {
    const probe = new LatencyProbe();
    await source.query(`create table ${PROBE_TABLE} (id int primary key, body text)`);
    await target.query(`
      create table public.${PROBE_TABLE} (id int primary key, body text, _millrace_version bigint not null, _millrace_commit_time timestamptz);
      create function public.tell() returns trigger language plpgsql as
        $$ begin perform pg_catalog.pg_notify('${CHANNEL}', new.id::text); return null; end $$;
      create trigger tell after insert on public.${PROBE_TABLE} for each row execute function public.tell()`);
    const listener = probe.#stack.use(await target.connect());
    listener.on("notification", ({ payload }) => probe.#seen(Number(payload)));
    await listener.query(`listen ${CHANNEL}`);
    const writer = probe.#stack.use(await source.connect());
    probe.#writing = probe.#write(async (id) => {
      await writer.query(`insert into ${PROBE_TABLE} values ($1, repeat('p', 200))`, [id]);
    }, everyMs);
    return probe;
  }

  /** Forgets what was measured, so that the next answer is about rows that are committed from now on. */
  reset(): void {
    this.#latenciesMs = [];
    this.#committedMs.clear();
  }

  get count(): number {
    return this.#latenciesMs.length;
  }

  /** Milliseconds that so many of a hundred rows stayed below; rows that are not there yet count as old as they are. */
  percentileMs(percent: number): number {
    const nowMs = performance.now();
    const waiting = [...this.#committedMs.values()].map((committedMs) => nowMs - committedMs);
    const sorted = [...this.#latenciesMs, ...waiting].toSorted((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))] ?? Number.NaN;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#writing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await this.#stack[Symbol.asyncDispose]();
  }

  async #write(insert: (id: number) => Promise<void>, everyMs: number): Promise<void> {
    for (let id = 1; !this.#stopped; id++) {
      const sentMs = performance.now();
      // Known before the answer, which may come later than the notice.
      this.#committedMs.set(id, sentMs);
      await insert(id);
      if (this.#committedMs.has(id)) this.#committedMs.set(id, performance.now());
      await sleep(everyMs);
    }
  }

  #seen(id: number): void {
    const committedMs = this.#committedMs.get(id);
    if (committedMs === undefined) return;
    this.#committedMs.delete(id);
    this.#latenciesMs.push(performance.now() - committedMs);
  }
}
