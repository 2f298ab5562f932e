import { expect, test, vi } from "vitest";
import { systemClock } from "../../src/core/clock.ts";
import type { TableWrites } from "../../src/core/model/batch.ts";
import { MillraceError } from "../../src/core/errors.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import type { StateStore } from "../../src/core/contracts/state-store.ts";
import type { Logger } from "../../src/core/contracts/telemetry.ts";
import { DeadLetterBox, type DeadLetterRules } from "../../src/runtime/sink/dead-letters.ts";
import { DISCARD } from "../../src/runtime/control/replay.ts";
import { blockOf, tableVersion, UNCHANGED, writesOf } from "../support/model/blocks.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { LETTERS_FROM, realState } from "../support/model/scripted.ts";

const columns = [
  ["id", "int4"],
  ["name", "text"],
] as const;
const users = tableVersion({ table: "users", columns, key: ["id"] });
const notes = tableVersion({ table: "notes", columns, key: ["id"] });
const refusal = new MillraceError({ code: "MR3998", kind: "poison", message: "too long" });

function boxOf(state: StateStore, rules: Partial<DeadLetterRules> = {}, logger: Logger = quietLog): DeadLetterBox {
  const all: DeadLetterRules = {
    policy: "deadLetter",
    countMax: 1_000,
    isHistory: false,
    lose: async () => undefined,
    ...rules,
  };
  return new DeadLetterBox("s", state.deadLetters, all, { ...LETTERS_FROM, name: "shop" }, logger);
}

function writes(table: typeof users, ids: readonly number[], commit = 1000n): TableWrites {
  return writesOf(table, blockOf(ids.map((id) => ({ table, op: "c", after: [String(id), "n"], commit }))));
}

async function letters(state: StateStore) {
  return (await state.deadLetters.list()).map(({ tableId, key, state: how }) => [tableId, key[0], how]);
}

test("a refused row is stored with what an operator needs, and no value but in its envelope", async () => {
  await using opened = await realState();
  await boxOf(opened.state).add(writes(users, [7, 8], 4000n), 1, refusal);
  const [letter] = await opened.state.deadLetters.list();
  expect(letter).toMatchObject({
    sink: "s",
    tableId: users.id,
    key: ["8"],
    op: "c",
    code: "MR3998",
    reason: "too long",
    position: { epoch: 1, commit: 4000n, index: 1 },
    state: "waiting",
  });
  // What reads the letters of all rows holds none of the rows.
  expect(letter).not.toHaveProperty("envelope");
  const envelope = await opened.state.deadLetters.envelope(letter!.id);
  expect(JSON.parse(envelope!)).toMatchObject({ op: "c", key: { id: 8 }, after: { name: "n" } });
});

test("a key that is written since is superseded: in its own table, and not by the step that refused it", async () => {
  await using opened = await realState();
  const box = boxOf(opened.state);
  box.beginAttempt();
  await box.add(writes(users, [1]), 0, refusal);
  await box.supersede([writes(users, [1, 2]), writes(notes, [1])]);
  expect(await letters(opened.state)).toEqual([[users.id, "1", "waiting"]]);
  box.beginAttempt();
  await box.add(writes(notes, [1]), 0, refusal);
  await box.supersede([writes(users, [1]), writes(notes, [1])]);
  expect(await letters(opened.state)).toEqual([
    [users.id, "1", "superseded"],
    [notes.id, "1", "waiting"],
  ]);
});

test("a table that is emptied leaves the letters of what came since, and those of other tables", async () => {
  await using opened = await realState();
  const box = boxOf(opened.state, { countMax: 2 });
  const one = async (table: typeof users, id: number, commit: bigint): Promise<void> =>
    box.add(writes(table, [id], commit), 0, refusal);
  await one(users, 1, 1000n);
  await one(notes, 1, 1000n);
  await one(users, 2, 3000n);
  await box.empties(users, rowVersion(1, 2000n));
  expect(await letters(opened.state)).toEqual([
    [users.id, "1", "superseded"],
    [notes.id, "1", "waiting"],
    [users.id, "2", "waiting"],
  ]);
  // Nor do they count any more.
  await one(users, 3, 4000n);
  await boxOf(opened.state, { isHistory: true }).empties(users, rowVersion(1, 9000n));
  expect((await letters(opened.state)).filter(([, , how]) => how === "waiting")).toHaveLength(3);
});

test("what keeps every change lacks one that was refused as soon as its key's next change is written, or refused", async () => {
  await using opened = await realState();
  const lose = vi.fn<(tableId: string) => Promise<void>>(async () => undefined);
  const box = boxOf(opened.state, { isHistory: true, lose });
  const refused = async (commit: bigint): Promise<void> => {
    box.beginAttempt();
    await box.add(writes(users, [1], commit), 0, refusal);
  };
  const written = async (...some: readonly TableWrites[]): Promise<void> => {
    box.beginAttempt();
    await box.supersede(some);
  };
  await refused(1000n);
  // The same change again, after the process was killed.
  await refused(1000n);
  await written(writes(users, [1], 1000n), writes(notes, [1], 2000n));
  expect(lose).not.toHaveBeenCalled();
  await refused(1000n);
  await written(writesOf(users, blockOf([{ table: users, op: "r", after: ["1", "n"], commit: 3000n }])));
  expect(lose).not.toHaveBeenCalled();
  await refused(1000n);
  await written(writes(users, [2], 2000n));
  expect(lose).not.toHaveBeenCalled();
  await written(writes(users, [1], 2000n));
  expect(lose.mock.calls).toEqual([[users.id]]);
  await refused(3000n);
  await refused(4000n);
  expect(lose).toHaveBeenCalledTimes(2);
});

test("a change that was discarded is lacked until its key is written, also after a restart, and no loss that nobody knows of", async () => {
  await using opened = await realState();
  const { deadLetters } = opened.state;
  const lose = vi.fn<(tableId: string) => Promise<void>>(async () => undefined);
  for (const id of [1, 2, 3, 4]) await boxOf(opened.state).add(writes(users, [id]), 0, refusal);
  await deadLetters.settle(
    (await deadLetters.list()).slice(0, 3).map(({ id }) => id),
    DISCARD,
  );
  const box = boxOf(opened.state, { isHistory: true, lose });
  box.beginAttempt();
  const lacked = async () => [...(await box.lackedOf(users.id))].map(([key, { isWaiting }]) => [key, isWaiting]);
  expect(await lacked()).toEqual([
    ['["1"]', false],
    ['["2"]', false],
    ['["3"]', false],
    ['["4"]', true],
  ]);
  const partial = blockOf([{ table: users, op: "u", after: ["1", UNCHANGED], commit: 2000n }]);
  await box.supersede([writesOf(users, partial)]);
  expect(await lacked()).toHaveLength(4);
  await box.supersede([writes(users, [1], 2000n)]);
  // It is refused once more.
  await box.add(writes(users, [2], 3000n), 0, refusal);
  expect(await lacked()).toEqual([
    ['["2"]', true],
    ['["3"]', false],
    ['["4"]', true],
  ]);
  expect(lose).not.toHaveBeenCalled();
  box.beginAttempt();
  await box.supersede([writes(users, [2], 3000n)]);
  expect(await letters(opened.state)).toEqual([
    [users.id, "1", "superseded"],
    [users.id, "2", "superseded"],
    [users.id, "3", "discarded"],
    [users.id, "4", "waiting"],
    [users.id, "2", "superseded"],
  ]);
  await boxOf(opened.state).empties(users, rowVersion(1, 2000n));
  expect(await deadLetters.lacking("s")).toEqual([]);
});

test("the batch after one that supersedes a letter reads no other letters again", async () => {
  await using opened = await realState();
  const lists = vi.spyOn(opened.state.deadLetters, "lacking");
  const box = boxOf(opened.state);
  box.beginAttempt();
  for (const entry of [0, 1, 2]) await box.add(writes(users, [1, 2, 3]), entry, refusal);
  box.beginAttempt();
  for (const id of [1, 2, 1]) await box.supersede([writes(users, [id])]);
  expect([...(await box.lackedOf(users.id)).keys()]).toEqual(['["3"]']);
  expect(lists).toHaveBeenCalledTimes(1);
  expect(await letters(opened.state)).toEqual([
    [users.id, "1", "superseded"],
    [users.id, "2", "superseded"],
    [users.id, "3", "waiting"],
  ]);
});

test("a row is told once, however often the step is tried, and again when its next change is refused", async () => {
  await using opened = await realState();
  const told: unknown[] = [];
  const box = boxOf(opened.state, {}, { ...quietLog, warn: (fields) => void told.push(fields) });
  for (const commit of [1000n, 1000n, 1000n, 2000n]) {
    box.beginAttempt();
    await box.add(writes(users, [1], commit), 0, refusal);
  }
  expect(told).toEqual([1, 2].map(() => ({ table: users.id, error: refusal })));
});

test("a row that the next attempt at the same step gets through is superseded by it", async () => {
  await using opened = await realState();
  const box = boxOf(opened.state);
  box.beginAttempt();
  await box.add(writes(users, [1]), 0, refusal);
  box.beginAttempt();
  await box.supersede([writes(users, [1])]);
  expect(await letters(opened.state)).toEqual([[users.id, "1", "superseded"]]);
});

test("letters of an earlier run are known", async () => {
  await using opened = await realState();
  await boxOf(opened.state).add(writes(users, [1]), 0, refusal);
  await boxOf(opened.state).supersede([writes(users, [1])]);
  expect(await letters(opened.state)).toEqual([[users.id, "1", "superseded"]]);
});

test("where the policy is to pause, the row is stored and the sink stops", async () => {
  await using opened = await realState();
  const adding = boxOf(opened.state, { policy: "pause" }).add(writes(users, [1]), 0, refusal);
  await expect(adding).rejects.toMatchObject({ code: "MR1302", kind: "fatal" });
  expect(await letters(opened.state)).toEqual([[users.id, "1", "waiting"]]);
});

test("one row too many: the table is at fault, in a history the sink; known rows and discarded letters do not count", async () => {
  await using opened = await realState();
  const { deadLetters } = opened.state;
  const box = boxOf(opened.state, { countMax: 2 });
  await box.add(writes(users, [1, 2]), 0, refusal);
  await box.add(writes(users, [1, 2]), 1, refusal);
  await box.add(writes(users, [2], 2000n), 0, refusal);
  await box.add(writes(notes, [3]), 0, refusal);
  await expect(box.add(writes(users, [3]), 0, refusal)).rejects.toMatchObject({ code: "MR1302", table: users.id });
  expect((await deadLetters.waiting()).get("s")?.count).toBe(3);
  const history = boxOf(opened.state, { countMax: 2, isHistory: true });
  const stopped = history.add(writes(users, [3]), 0, refusal);
  await expect(stopped).rejects.toMatchObject({ code: "MR1302", kind: "fatal", table: undefined });
  const [first] = await deadLetters.list({ sink: "s", state: "waiting" });
  await deadLetters.settle([first!.id], DISCARD);
  await box.add(writes(users, [3]), 0, refusal);
});

test("letters that have ended go after thirty days; those that wait stay, and discarded ones without their values", async () => {
  let nowMs = Date.parse("2026-01-01T00:00:00Z");
  await using opened = await realState({ clock: { ...systemClock, now: () => nowMs } });
  const { deadLetters } = opened.state;
  const box = boxOf(opened.state);
  await box.add(writes(users, [1, 2, 3]), 0, refusal);
  await box.add(writes(users, [1, 2, 3]), 1, refusal);
  const [, second] = await deadLetters.list();
  await deadLetters.supersede("s", users.id, [["1"]]);
  await deadLetters.settle([second!.id], DISCARD);
  nowMs += 30 * 86_400_000;
  await box.add(writes(users, [1, 2, 3]), 2, refusal);
  expect(await letters(opened.state)).toEqual([
    [users.id, "1", "superseded"],
    [users.id, "2", "discarded"],
    [users.id, "3", "waiting"],
  ]);
  // It looks for them once an hour, or every 500 letters.
  nowMs += 1;
  await box.add(writes(users, [1, 2, 3]), 2, refusal);
  expect(await letters(opened.state)).toHaveLength(3);
  nowMs += 3_600_000;
  await box.add(writes(notes, [1]), 0, refusal);
  expect(await letters(opened.state)).toEqual([
    [users.id, "2", "discarded"],
    [users.id, "3", "waiting"],
    [notes.id, "1", "waiting"],
  ]);
  expect(await deadLetters.envelope(second!.id)).toBe("{}");
});
