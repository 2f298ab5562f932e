/** Inspections of comparisons that last: what is open in a sink, and for how long. */
import { expect, test } from "vitest";
import { type Clock, systemClock } from "../../src/core/clock.ts";
import type { ComparePort, Inspection, StoredRow } from "../../src/core/contracts/comparing.ts";
import { comparePorts } from "../../src/daemon/joined-control.ts";
import { Inspections } from "../../src/reconcile/inspections.ts";
import { TableComparison } from "../../src/reconcile/rows/table-comparison.ts";
import { tableVersion } from "../support/model/blocks.ts";

const table = tableVersion({ table: "t", columns: { id: "int8" } });
const { signal } = new AbortController();

/** A sink that counts what is open; each read is answered by `answer`. */
function scene() {
  const open = new Set<number>();
  const answers: Promise<readonly StoredRow[]>[] = [];
  let count = 0;
  const inspect = async (): Promise<Inspection> => {
    const number = ++count;
    open.add(number);
    const inspection: Partial<Inspection> = {
      id: (_, key) => key.join(),
      rows: async () => await (answers.shift() ?? []),
      async *keys() {
        yield [{ id: "1", key: ["1"] }];
      },
      async [Symbol.asyncDispose]() {
        open.delete(number);
      },
    };
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of it
    return inspection as Inspection;
  };
  const port: Partial<ComparePort> = { inspect };
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of it
  return { open, answers, inspections: new Inspections(port as ComparePort) };
}

test("after a failure the next call opens another one", async () => {
  const { open, answers, inspections } = scene();
  const inspection = await inspections.of("sink", signal);
  await inspection.rows(table, [], signal);
  expect([...open]).toEqual([1]);
  answers.push(Promise.reject(new Error("the connection ended")));
  await expect(inspection.rows(table, [], signal)).rejects.toThrow("the connection ended");
  expect([...open]).toEqual([]);
  expect(inspection.id(table, ["7"])).toBe("7");
  await inspection.rows(table, [], signal);
  expect([...open]).toEqual([2]);
  await inspections[Symbol.asyncDispose]();
  expect([...open]).toEqual([]);
});

test("what is let go of closes when the call that uses it has ended, and opens again for the next", async () => {
  const { open, answers, inspections } = scene();
  const inspection = await inspections.of("sink", signal);
  const answer = Promise.withResolvers<readonly StoredRow[]>();
  answers.push(answer.promise);
  const reading = inspection.rows(table, [], signal);
  await inspections.letGo(["sink", "another"]);
  await inspection.rows(table, [], signal);
  expect([...open]).toEqual([1, 2]);
  answer.resolve([]);
  await reading;
  expect([...open]).toEqual([2]);
  await inspections[Symbol.asyncDispose]();
  expect([...open]).toEqual([]);
});

test("what is opened while an earlier one is left after a failure is closed too", async () => {
  // Whichever step of that the other calls come between.
  for (let steps = 0; steps < 12; steps++) {
    const { open, answers, inspections } = scene();
    const inspection = await inspections.of("sink", signal);
    answers.push(Promise.reject(new Error("the connection ended")));
    const failing = inspection.rows(table, [], signal).catch(() => null);
    for (let step = 0; step < steps; step++) await Promise.resolve();
    const letGo = inspection.letGo();
    const next = inspection.rows(table, [], signal);
    await Promise.all([failing, letGo, next]);
    await inspections[Symbol.asyncDispose]();
    expect([steps, ...open]).toEqual([steps]);
  }
});

test("a listing ends, and begins again later, where the sink waits for what it holds open", async () => {
  const { open, inspections } = scene();
  const inspection = await inspections.of("sink", signal);
  let nowMs = 0;
  const clock: Clock = { ...systemClock, elapsed: () => nowMs, sleep: async (ms) => void (nowMs += ms) };
  let looks = 0;
  const port: Partial<ComparePort> = {
    tables: [table],
    awaited: async () => new Set(),
    unready: async () => (open.has(1) ? { reason: "the sink is retrying", isWhole: true } : null),
    at: async () => {
      looks++;
      const outcome = open.has(1) ? { kind: "failed", error: new Error("it is open") } : { kind: "compared" };
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- one of its outcomes
      const outcomes = new Map([["sink", outcome]]) as Awaited<ReturnType<ComparePort["at"]>>["outcomes"];
      return { last: null, at: "0/1", byteCount: 0, readMs: 0, unsettled: [], outcomes };
    },
  };
  const comparison = new TableComparison({
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what is asked of it
    port: port as ComparePort,
    inspection,
    table,
    sink: "sink",
    clock,
    patienceMs: 60_000,
    lag: async () => "its lag is not known",
    repairs: false,
    showsValues: false,
    sampleMax: 0,
    part: null,
    resumed: null,
    isOfKeys: true,
  });
  await comparison.lookForAll(signal);
  expect(looks).toBeGreaterThan(1);
  await inspections[Symbol.asyncDispose]();
  expect([...open]).toEqual([]);
});

test("with documents the port is the same until one of the two pipelines streams anew", () => {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- nothing is asked of it
  const port = (): ComparePort => ({ sinks: [] }) as unknown as ComparePort;
  const tables = { comparisons: port() };
  const documents: { comparisons: ComparePort | null } = { comparisons: null };
  const asked = comparePorts(tables, documents);
  expect(asked()).toBeNull();
  documents.comparisons = port();
  const first = asked();
  expect(first === null).toBe(false);
  expect(asked() === first).toBe(true);
  tables.comparisons = port();
  expect(asked() === first).toBe(false);
  expect(asked() === asked()).toBe(true);
});
