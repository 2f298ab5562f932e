/** Inspections of comparisons that last: what is open in a sink, and for how long. */
import { expect, test } from "vitest";
import type { ComparePort, Inspection, StoredRow } from "../../src/core/contracts/comparing.ts";
import { Inspections } from "../../src/reconcile/inspections.ts";
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
