/** The harness itself: each planted defect is caught by it, and where there is none it finds nothing. */
import { expect, test } from "vitest";
import { auditEffects, COUNTED_TABLE, readEffects } from "../../support/model/counted.ts";
import type { Daemon } from "../../support/daemon/daemon-process.ts";
import { Load, Victim } from "../../support/faults/fault-load.ts";
import { reconcile } from "../../support/daemon/reconciled.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import { Random, testSeed } from "../../support/run/random.ts";
import { freshDatabase } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const KILL_COUNT = isLongForm() ? 3 : 2;
const EVICTED_COUNT = 100;
/** A mutant that has stopped a sink, or itself, never gets there. */
const WAIT_SECONDS = 10;

/** What each must at least be caught by. */
const MUTATIONS: Readonly<Record<string, RegExp>> = {
  "acknowledge-early": /(missing|different)/,
  "drop-rows": /postgres public\.\w+: .*(missing|extra|different)/,
  "apply-twice": /^postgres: row \d+ was written 2 times with version/,
  "ignore-progress": /^postgres: row \d+ was written \d+ times with version/,
  "skip-listing": /redis public\.account: [1-9]\d* missing/,
  "apply-older": /(postgres|redis) public\.\w+: .*(missing|extra|different)/,
};
/** Those after which the sinks hold other rows than the source: `reconcile` says so, and of no other. */
const SEEN_IN_ROWS = ["acknowledge-early", "apply-older", "drop-rows", "skip-listing"];
/** One that rows tell of, and one that only the effects tell of. */
const SHORT = new Set(["drop-rows", "ignore-progress"]);
const CHOSEN = Object.entries(MUTATIONS).filter(([name]) => isLongForm() || SHORT.has(name));
const COMPARED = ["--tables", "public.account", "public.line"];

test(
  "killed and looked at like the product, each mutant is caught and the one without a defect is not",
  { tags: "long" },
  async () => {
    const random = new Random(testSeed());
    await using load = await Load.create(random.seed, 300);
    const names = ["none", ...CHOSEN.map(([name]) => name)];
    await using victims = new AsyncDisposableStack();
    const all = new Map<string, Victim>();
    for (const name of names) {
      const victim = await Victim.create(load, `m${all.size}`, ["postgres", "redis"]);
      all.set(name, victims.use(victim));
    }
    load.start(25);
    await each(all, async (name, victim) => {
      for (let kill = 0; kill < KILL_COUNT; kill++) {
        const daemon = await started(name, victim);
        await victim.evict(random, EVICTED_COUNT);
        await load.burst();
        // Once is enough, and afterwards its sinks may well be beyond help.
        if (name === "acknowledge-early" && kill === 0) await acknowledged(load, victim);
        await daemon.kill();
      }
    });
    const lastButOne = new Map<string, Daemon>();
    await each(all, async (name, victim) => void lastButOne.set(name, await started(name, victim)));
    await load.stop();
    const found = new Map<string, readonly string[]>();
    const drifted: string[] = [];
    await each(all, async (name, victim) => {
      const waitSeconds = name === "none" ? 90 : WAIT_SECONDS;
      // Now that nothing changes any more, what is repeated is repeated as it was.
      await victim.installation.command("wait", "--timeout", `${waitSeconds}s`);
      await lastButOne.get(name)?.kill();
      const last = await started(name, victim);
      if (isLongForm()) {
        const compared = await reconcile(victim.installation, "--patience", "60s", ...COMPARED);
        if (compared.found.drift) drifted.push(name);
      }
      const { faults, effectCount } = await victim.verdict(last, waitSeconds);
      expect({ [name]: effectCount }).not.toEqual({ [name]: 0 });
      found.set(name, faults);
    });
    expect(found.get("none")).toEqual([]);
    if (isLongForm()) expect(drifted.toSorted()).toEqual(SEEN_IN_ROWS);
    for (const [name, pattern] of CHOSEN) {
      const faults = found.get(name)!;
      expect({ [name]: faults.some((fault) => pattern.test(fault)), faults }).toMatchObject({ [name]: true });
    }
  },
);

test("the audit in the target sees a version go down, a row vanish and a version come twice", async () => {
  await using target = await freshDatabase();
  await auditEffects(target);
  await target.query(`insert into ${COUNTED_TABLE} values (1, 1, 10), (2, 1, 10);
    update ${COUNTED_TABLE} set n = 2, _millrace_version = 20 where id = 1`);
  expect(await readEffects(target)).toEqual({ count: 3, faults: [] });
  await target.query(
    `update ${COUNTED_TABLE} set n = 1, _millrace_version = 10 where id = 1; delete from ${COUNTED_TABLE} where id = 2`,
  );
  const { faults } = await readEffects(target);
  expect(faults.toSorted()).toEqual([
    "postgres: row 1 was written 2 times with version 10",
    "postgres: row 1 went from n 2, version 20 to n 1, version 10",
    "postgres: row 2 was deleted",
  ]);
});

/** The mutant, streaming, unless its defect keeps it from that. */
async function started(name: string, victim: Victim): Promise<Daemon> {
  const daemon = victim.runMutant(name);
  await daemon.streaming(20_000).catch(() => undefined);
  return daemon;
}

/** The source has been told that what was committed before this call is durable in every sink. */
async function acknowledged({ source }: Load, { installation }: Victim): Promise<void> {
  const { rows: at } = await source.query<{ lsn: string }>("select pg_current_wal_flush_lsn()::text as lsn");
  await eventually(async () => {
    const { rows } = await source.query<{ reached: boolean }>(
      "select confirmed_flush_lsn >= $2::pg_lsn as reached from pg_replication_slots where slot_name = $1",
      [`millrace_${installation.name}`, at[0]!.lsn],
    );
    return rows[0]?.reached === true;
  });
}

async function each(all: ReadonlyMap<string, Victim>, work: (name: string, victim: Victim) => Promise<void>) {
  // Nobody may still be at work when the first failure ends the test.
  const results = await Promise.allSettled([...all].map(([name, victim]) => work(name, victim)));
  for (const result of results) if (result.status === "rejected") throw result.reason;
}
