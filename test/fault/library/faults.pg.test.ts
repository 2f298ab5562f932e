/**
 * Everything breaks, one after the other, around a program that stores its position in its own database: each transaction has its
 * effect exactly once. docs/library.md lists what is broken.
 * @module-tag heavy
 */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, expect, test } from "vitest";
import { FailoverPair } from "../../support/faults/failover-pair.ts";
import { Example } from "../../support/library/example.ts";
import { changesOf, hasPosition, postgresOrders, sums, write } from "../../support/library/turnover.ts";
import { type TcpProxy, tcpProxy } from "../../support/network/proxy.ts";
import { isLeastMode } from "../../support/postgres/least-mode.ts";
import { createFreshDatabase, type FreshDatabase } from "../../support/run/fresh-database.ts";
import { freshDatabase, needsPostgres } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

/** As docs/library.md, docs/guarantees.md and test/README.md say. */
const FAULT_COUNT = 24;
const WITHIN_MS = 90_000;
const AWAY_MS = 2_000;
const STALLED_MS = 4_000;
const RESTART_MS = 200;
/** So many changes later it is certain that the program goes on. */
const LATER = 20;

/** The program, started again whenever it ends, as a service manager would. */
class Supervised implements AsyncDisposable {
  readonly #environment: Readonly<Record<string, string>>;
  #failpoints = "";
  /** By its failpoints, how the last program with them ended. */
  readonly #exits = new Map<string, string | number | null>();
  #isEnded = false;
  readonly #running: Promise<void>;
  program: Example | null = null;
  /** What the programs wrote that have ended, and how they ended. */
  said = "";

  constructor(environment: Readonly<Record<string, string>>) {
    this.#environment = environment;
    this.#running = this.#run();
  }

  async #run(): Promise<void> {
    while (!this.#isEnded) {
      const failpoints = this.#failpoints;
      this.#failpoints = "";
      await using program = this.start(failpoints);
      this.program = program;
      await program.ended;
      this.#exits.set(failpoints, program.exit);
      this.said = `${this.said}${program.output}\n${program.exit}\n`.slice(-4_000);
      await sleep(RESTART_MS);
    }
  }

  start(failpoints = ""): Example {
    return new Example("exactly-once.ts", { ...this.#environment, MILLRACE_FAILPOINTS: failpoints });
  }

  signal(signal: NodeJS.Signals): void {
    const pid = this.program?.pid ?? 0;
    // 0 is the tests' own process group.
    if (pid === 0) throw new Error("no program runs");
    process.kill(pid, signal);
  }

  /** The next program has this failpoint, and ends there. */
  async killedAt(failpoint: string): Promise<void> {
    const entry = `${failpoint}=kill`;
    this.#failpoints = entry;
    await this.program?.end("SIGKILL");
    await eventually(() => expect(this.#exits.get(entry), this.program?.output).toBe("SIGKILL"), {
      withinMs: WITHIN_MS,
    });
  }

  /** In order; returns its exit code. */
  async end(): Promise<string | number | null> {
    this.#isEnded = true;
    const exit = (await this.program?.end()) ?? null;
    await this.#running;
    return exit;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }
}

interface Scene {
  readonly pair: FailoverPair;
  readonly source: FreshDatabase;
  readonly target: FreshDatabase;
  readonly targetProxy: TcpProxy;
  readonly programs: Supervised;
}

const awayFor = async (proxy: TcpProxy): Promise<void> => {
  await proxy.refuse();
  proxy.cut();
  await sleep(AWAY_MS);
  await proxy.resume();
};

const endSessions = (database: FreshDatabase, which: string) =>
  database.query(
    `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and ${which}`,
  );

/** The target gets further changes: the program goes on. */
const goesOn = async ({ target, programs }: Scene): Promise<void> => {
  const before = await changesOf(target);
  await eventually(async () => expect(await changesOf(target), programs.said).toBeGreaterThan(before + LATER), {
    withinMs: WITHIN_MS,
  });
};

/** By name, as docs/library.md has them; each begins while the program takes changes. */
const FAULTS: Readonly<Record<string, (scene: Scene) => Promise<unknown>>> = {
  "it is killed before it gets what it asked for": ({ programs }) => programs.killedAt("sink.prepared"),
  "it is killed when it has done a batch": ({ programs }) => programs.killedAt("sink.applied"),
  "it is killed before Millrace stores what is done": ({ programs }) => programs.killedAt("ack.computed"),
  "it is killed before Millrace acknowledges what is done": ({ programs }) => programs.killedAt("ack.stored"),
  "it is killed at any moment": async ({ programs }) => {
    await sleep(Math.random() * 1_000);
    await programs.program?.end("SIGKILL");
  },
  "it is killed between the pieces of a transaction": async ({ programs, target }) => {
    const isWithin = async () => {
      const { rows } = await target.query<{ within: boolean }>(
        String.raw`select position ~ ';\d+\.[1-9]\d*;' as within from followed`,
      );
      return rows[0]?.within === true;
    };
    for (let isKilled = false; !isKilled;) {
      await eventually(isWithin, { withinMs: WITHIN_MS, everyMs: 1 });
      await programs.program?.end("SIGKILL");
      isKilled = await isWithin();
      await sleep(RESTART_MS);
    }
  },
  "it is stopped in order": async ({ programs }) => expect(await programs.program?.end("SIGTERM")).toBe(0),
  "it is frozen for some seconds": async ({ programs }) => {
    programs.signal("SIGSTOP");
    await sleep(STALLED_MS);
    programs.signal("SIGCONT");
  },
  "a second one of its name is started": async ({ programs }) => {
    await using second = programs.start();
    await Promise.race([second.ended, sleep(STALLED_MS)]);
  },
  "its connections to the source are reset": async ({ pair }) => pair.proxy.cut(),
  "its connections to the source stall": async ({ pair }) => {
    pair.proxy.stall();
    await sleep(STALLED_MS);
    await pair.proxy.resume();
  },
  "its connections to the source are refused": ({ pair }) => awayFor(pair.proxy),
  "the source ends its sessions": async ({ source }) => {
    await using client = await source.connect();
    await client.query(
      "select pg_terminate_backend(active_pid) from pg_replication_slots where active_pid is not null",
    );
  },
  "the source is killed and comes back": async ({ pair }) => {
    await pair.primary.kill();
    await sleep(AWAY_MS);
    await pair.primary.start();
  },
  "its table gets another column": async ({ source }) => {
    await using client = await source.connect();
    await client.query("alter table orders add column note text");
  },
  "its connection to the target is reset": async ({ targetProxy }) => targetProxy.cut(),
  "its connections to the target are refused": ({ targetProxy }) => awayFor(targetProxy),
  "the target ends its session in a transaction": ({ target }) =>
    eventually(async () => (await endSessions(target, "xact_start is not null")).rowCount === 1, { everyMs: 1 }),
  "the target refuses its transactions for a while": async ({ target }) => {
    await target.query("alter table turnover add constraint refused check (changes < 0) not valid");
    await sleep(AWAY_MS);
    await target.query("alter table turnover drop constraint refused");
  },
  "the answer to its commit is lost": async ({ target, targetProxy }) => {
    const held = targetProxy.hold("commit");
    await held.reached;
    const before = await changesOf(target);
    targetProxy.stall("toClient");
    void held.release();
    await eventually(async () => (await changesOf(target)) > before);
    targetProxy.cut();
    await targetProxy.resume();
  },
  "its commit arrives when the next one of it is at work": async ({ programs, target, targetProxy }) => {
    const held = targetProxy.hold("commit");
    await held.reached;
    await programs.program?.end("SIGKILL");
    const waits = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    await eventually(async () => (await target.query(waits)).rowCount !== 0, { withinMs: WITHIN_MS });
    await held.release();
  },
  "the source's standby takes its place": async ({ pair, source }) => {
    await pair.untilSlot(`millrace_${source.name}`, "ready");
    await pair.losePrimary();
    await pair.promote();
  },
};

/** Before the program takes changes: those of its first start. */
const AT_FIRST = {
  "it is killed when it has said that it makes a slot": "source.announced",
  "it is killed when it has made the slot": "source.created",
} as const;

const broken: string[] = [];

afterAll(() => {
  if (broken.length > 0)
    process.stdout.write(`broken around the program:\n${broken.map((what) => `- ${what}\n`).join("")}`);
});

test("each transaction's effect exactly once, whatever breaks", async (context) => {
  needsPostgres(17, context);
  context.skip(isLeastMode, "a standby takes no roles");
  await using pair = await FailoverPair.start();
  await using orders = await postgresOrders(await createFreshDatabase(pair));
  await pair.addStandby();
  await using target = await freshDatabase();
  await using targetProxy = await tcpProxy(target.url);
  const environment = { ...orders.environment, TARGET: targetProxy.url(target.url) };
  await using programs = new Supervised(environment);
  for (const [what, failpoint] of Object.entries(AT_FIRST)) {
    await programs.killedAt(failpoint);
    broken.push(what);
  }
  await eventually(async () => expect(await hasPosition(target), programs.said).toBe(true), { withinMs: WITHIN_MS });
  await orders.count();
  const stopping = new AbortController();
  const writing = write(orders, stopping.signal, true);
  writing.catch(() => undefined);
  const scene: Scene = { pair, source: orders.database, target, targetProxy, programs };
  await goesOn(scene);
  for (const [what, fault] of Object.entries(FAULTS)) {
    await fault(scene);
    await goesOn(scene);
    broken.push(what);
  }
  stopping.abort();
  await writing;
  const expected = await orders.expected();
  await eventually(async () => expect(await sums(target, "turnover"), programs.said).toEqual(expected), {
    withinMs: WITHIN_MS,
  });
  // Nothing comes twice behind that.
  await orders.run("insert into orders values (-1, 0, 1, 'last')");
  const later = await orders.expected();
  await eventually(async () => expect(await sums(target, "turnover")).toEqual(later));
  expect(broken).toHaveLength(FAULT_COUNT);
  expect(await programs.end(), programs.said).toBe(0);
});
