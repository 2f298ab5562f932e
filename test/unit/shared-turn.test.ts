/** Turns of processes that write one lake. */
import { readdirSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import { SharedTurn } from "../../connectors/duckdb/lake/shared-turn.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";
import { eventually } from "../support/run/waiting.ts";

const TIMES = { beatMs: 40, silenceMsMax: 300 };
/** Of the beats that are seen: they take several times as long as silence may last. */
const BEATS = 20;

test("who waits for a turn has it before the one who has just ended his", async () => {
  using folder = temporaryFolder();
  const catalog = folder.file("lake.db");
  writeFileSync(catalog, "");
  using busy = new SharedTurn(catalog);
  using waiting = new SharedTurn(catalog);
  const { signal } = new AbortController();
  const order: string[] = [];
  const first = await busy.take(signal);
  const other = waiting.take(signal).then((turn) => {
    order.push("other");
    turn[Symbol.dispose]();
  });
  // And no journal.
  expect(readdirSync(dirname(catalog)).toSorted()).toEqual(
    ["", "-beat", "-next", "-next-beat", "-turn"].map((end) => `lake.db${end}`),
  );
  first[Symbol.dispose]();
  using _ = await busy.take(signal);
  order.push("again");
  await other;
  expect(order).toEqual(["other", "again"]);
});

test("who is stopped while it waits keeps nobody", async () => {
  using folder = temporaryFolder();
  const catalog = folder.file("lake.db");
  writeFileSync(catalog, "");
  using busy = new SharedTurn(catalog);
  using waiting = new SharedTurn(catalog);
  const stop = new AbortController();
  const { signal } = new AbortController();
  const first = await busy.take(signal);
  const other = waiting.take(stop.signal);
  stop.abort();
  await expect(other).rejects.toThrow();
  first[Symbol.dispose]();
  using _ = await busy.take(signal);
});

test("who waits has its turn when the other one ends his, however long that took", async () => {
  using folder = temporaryFolder();
  const catalog = folder.file("lake.db");
  writeFileSync(catalog, "");
  const [busy, waiting, last] = [0, 1, 2].map(() => new SharedTurn(catalog, TIMES));
  const { signal } = new AbortController();
  const order: string[] = [];
  const taken = async (name: string, turn: SharedTurn): Promise<void> => {
    using _ = await turn.take(signal);
    order.push(name);
  };
  const first = await busy!.take(signal);
  const others = [taken("waiting", waiting!), taken("last", last!)];
  const beats = new Set<number>();
  await eventually(() => beats.add(statSync(`${catalog}-beat`).mtimeMs).size > BEATS);
  order.push("busy");
  first[Symbol.dispose]();
  await Promise.all(others);
  expect(order).toEqual(["busy", "waiting", "last"]);
  for (const turn of [busy, waiting, last]) turn![Symbol.dispose]();
});

test("a process that is stopped in its turn keeps nobody", async () => {
  using folder = temporaryFolder();
  const catalog = folder.file("lake.db");
  writeFileSync(catalog, "");
  // A stopped process keeps its locks, and says nothing.
  using stopped = new DatabaseSync(`${catalog}-turn`);
  stopped.exec("BEGIN IMMEDIATE");
  using waiting = new SharedTurn(catalog, TIMES);
  using _ = await waiting.take(new AbortController().signal);
});

async function tookMs(turns: readonly SharedTurn[]): Promise<number> {
  const begunMs = performance.now();
  for (const turn of turns) (await turn.take(new AbortController().signal))[Symbol.dispose]();
  return performance.now() - begunMs;
}

test.each([
  ["in its turn", "turn"],
  ["while it waits for its turn", "next"],
])("a process that is stopped %s is waited for once, not at each turn of the others", async (_, lock) => {
  using folder = temporaryFolder();
  const catalog = folder.file("lake.db");
  writeFileSync(catalog, "");
  using stopped = new DatabaseSync(`${catalog}-${lock}`);
  stopped.exec("BEGIN IMMEDIATE");
  using one = new SharedTurn(catalog, TIMES);
  using other = new SharedTurn(catalog, TIMES);
  const patienceMs = await tookMs([one, other]);
  // Each wait would take as long as half of the first two.
  expect(await tookMs([one, other, one, other, one, other, one, other])).toBeLessThan(patienceMs);
});

test("the others take turns beside a process that is stopped, and wait for it once it beats again", async () => {
  using folder = temporaryFolder();
  const catalog = folder.file("lake.db");
  writeFileSync(catalog, "");
  using stopped = new DatabaseSync(`${catalog}-turn`);
  stopped.exec("BEGIN IMMEDIATE");
  using one = new SharedTurn(catalog, TIMES);
  using other = new SharedTurn(catalog, TIMES);
  const { signal } = new AbortController();
  await tookMs([one, other]);
  const order: string[] = [];
  const taken = async (name: string, turn: SharedTurn): Promise<void> => {
    using _ = await turn.take(signal);
    order.push(name);
  };
  const beaten = async (file: string): Promise<void> => {
    const beats = new Set<number>();
    await eventually(() => beats.add(statSync(`${catalog}-${file}`).mtimeMs).size > BEATS);
  };
  const first = await one.take(signal);
  const second = taken("other", other);
  await beaten("next-beat");
  order.push("one");
  first[Symbol.dispose]();
  await second;
  expect(order).toEqual(["one", "other"]);
  const beat = (): void => writeFileSync(`${catalog}-beat`, "");
  beat();
  const beating = setInterval(beat, TIMES.beatMs);
  const third = taken("again", one);
  await beaten("beat");
  order.push("stopped");
  stopped.exec("ROLLBACK");
  await third;
  clearInterval(beating);
  expect(order).toEqual(["one", "other", "stopped", "again"]);
});

test("a process that has given up what it does in its turn, and can't end it, keeps nobody", async () => {
  using folder = temporaryFolder();
  const catalog = folder.file("lake.db");
  writeFileSync(catalog, "");
  using hanging = new SharedTurn(catalog, TIMES);
  using waiting = new SharedTurn(catalog, TIMES);
  const work = new AbortController();
  using first = await hanging.take(work.signal);
  work.abort();
  using second = await waiting.take(new AbortController().signal);
  expect(second).not.toBe(first);
});
