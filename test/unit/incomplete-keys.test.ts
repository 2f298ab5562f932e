/** From which of a sink's rows a change takes what it leaves out, and for which changes a history can be asked whether it has the row. */
import { expect, test } from "vitest";
import type { TableWrites } from "../../src/core/model/batch.ts";
import { systemClock } from "../../src/core/clock.ts";
import { MillraceError } from "../../src/core/errors.ts";
import { DISCARD } from "../../src/runtime/control/replay.ts";
import { BatchWriter } from "../../src/runtime/sink/batch-writer.ts";
import { DeadLetterBox } from "../../src/runtime/sink/dead-letters.ts";
import { IncompleteKeys } from "../../src/runtime/sink/incomplete-keys.ts";
import { SinkPosition } from "../../src/runtime/sink/sink-position.ts";
import { blockOf, tableVersion, UNCHANGED, writesOf } from "../support/model/blocks.ts";
import { checkpointOf, complete } from "../support/daemon/complete.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { LETTERS_FROM, noMetrics, realState, ScriptedSink, tableAnswers } from "../support/model/scripted.ts";

const NEVER = new AbortController().signal;
const users = tableVersion({ table: "users", columns: { id: "int8", name: "text", note: "text" } });
const refusal = new MillraceError({ code: "MR3998", kind: "poison", message: "too long" });

const batch = (): TableWrites =>
  writesOf(
    users,
    blockOf([
      { table: users, op: "u", after: ["1", "a", UNCHANGED], isIfHeld: true },
      { table: users, op: "u", after: ["2", "a", UNCHANGED], isIfHeld: true },
      { table: users, op: "u", after: ["3", "a", UNCHANGED] },
    ]),
  );

async function history(form: "history" | "mirror" = "history", areReadUnasked = true) {
  const opened = await realState();
  const { state } = opened;
  const sink = new ScriptedSink("h");
  sink.form = form;
  const isHistory = form === "history";
  const rules = { policy: "deadLetter", countMax: 9, isHistory, lose: async () => undefined } as const;
  const deadLetters = new DeadLetterBox(sink.name, state.deadLetters, rules, LETTERS_FROM, quietLog);
  const position = new SinkPosition(sink, state.bonds);
  const at = { epoch: 1, commit: 1n, index: 0 };
  position.begin(checkpointOf(at, complete({ [users.id]: "shape/generation" })), at);
  let isCurrent = true;
  const tables = tableAnswers({ areReadUnasked, isCurrent: async () => isCurrent });
  const keysOf = (letters: DeadLetterBox) =>
    new IncompleteKeys({ sink, state, deadLetters: letters, position, tables, carried: new Set<string>() });
  const keys = keysOf(deadLetters);
  const listed = async () =>
    (await state.snapshots.keys([sink.name], null, 100))
      .map(({ key }) => key[0])
      .toSorted((a, b) => Number(a) - Number(b));
  return {
    state,
    deadLetters,
    becomesOther: () => (isCurrent = false),
    /** The keys of which the sink gets the changes, and those that wait to be read. */
    asked: async () => {
      const kept = await keys.withoutUnsure([batch()], NEVER);
      return [
        kept.flatMap(({ count, row }) => Array.from(row.subarray(0, count), (i) => String(i + 1))),
        await listed(),
      ];
    },
    /** The keys of the changes that take nothing from the row that the sink has. */
    baseless: async (letters = deadLetters) => {
      const [kept] = await keysOf(letters).withoutUnsure([batch()], NEVER);
      return Array.from(kept!.row.subarray(0, kept!.count), (i) => String(i + 1)).filter(
        (_, at) => kept!.fresh[at] === 1,
      );
    },
    /** The keys of which the sink gets the changes. */
    kept: async (letters: DeadLetterBox) => {
      const [kept] = await keysOf(letters).withoutUnsure([batch()], NEVER);
      return Array.from(kept!.row.subarray(0, kept!.count), (i) => String(i + 1));
    },
    /** As another process knows them, after the letters that wait were discarded. */
    discarded: async () => {
      const ids = (await state.deadLetters.list({ state: "waiting" })).map(({ id }) => id);
      await state.deadLetters.settle(ids, DISCARD);
      return new DeadLetterBox(sink.name, state.deadLetters, rules, LETTERS_FROM, quietLog);
    },
    /** The target refuses these entries: the keys with a dead letter, and those that wait to be read. */
    refused: async (...entries: readonly number[]) => {
      position.enter(await state.bonds.enter(sink.name, { own: undefined, owed: [], reason: "" }));
      const writes = batch();
      sink.apply = async (_, outcome) =>
        await outcome.poison(entries.map((entry) => ({ writes, entry, error: refusal })));
      const parts = { clock: systemClock, sink, position, incomplete: keys, deadLetters, limits: {} };
      const writer = new BatchWriter({ ...parts, logger: quietLog, metrics: noMetrics });
      await writer.apply({ kind: "rows", tables: [writes], checkpoint: checkpointOf({ ...at, commit: 2n }) }, NEVER);
      const letters = await state.deadLetters.list({ sink: sink.name });
      return [letters.map(({ key }) => key[0]), await listed()];
    },
    [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose](),
  };
}

test("one that holds the table as it is", async () => {
  await using one = await history();
  expect(await one.asked()).toEqual([["1", "2", "3"], []]);
});

test("not for a key that waits to be read, or whose row was refused", async () => {
  await using one = await history();
  await one.state.snapshots.addKeys("h", users.id, [["2"]]);
  expect(await one.asked()).toEqual([["1", "3"], ["2"]]);
  await one.deadLetters.add(batch(), 0, refusal);
  expect(await one.asked()).toEqual([["3"], ["1", "2"]]);
});

test("no other change takes a value from a row that waits to be read, or that was refused", async () => {
  await using one = await history();
  await one.state.snapshots.addKeys("h", users.id, [["1"]]);
  expect(await one.baseless()).toEqual([]);
  await one.state.snapshots.addKeys("h", users.id, [["3"]]);
  expect(await one.baseless()).toEqual(["3"]);
  await using refused = await history();
  await refused.deadLetters.add(batch(), 2, refusal);
  expect(await refused.baseless()).toEqual(["3"]);
  const later = await refused.discarded();
  expect(await refused.baseless(later)).toEqual(["3"]);
  await later.supersede([batch()]);
  expect(await refused.baseless(later)).toEqual(["3"]);
  const whole = writesOf(users, blockOf([{ table: users, op: "u", after: ["3", "a", "b"] }]));
  await later.supersede([whole]);
  expect(await refused.baseless(later)).toEqual([]);
});

test("nor from any row of a table that waits to be read or compared, or whose copy is another one's", async () => {
  for (const kind of ["table", "differences"] as const) {
    await using one = await history();
    await one.state.snapshots.add({ tableId: users.id, sink: "h", scope: { kind }, reason: "a test" });
    expect(await one.baseless()).toEqual(["3"]);
  }
  await using other = await history();
  other.becomesOther();
  expect(await other.baseless()).toEqual(["3"]);
});

test("but while a part is read that somebody asked for, and where nothing is read unasked", async () => {
  await using part = await history();
  const scope = { kind: "where", where: "id < 9" } as const;
  await part.state.snapshots.add({ tableId: users.id, sink: "h", scope, reason: "a test" });
  expect(await part.baseless()).toEqual([]);
  await using unread = await history("history", false);
  unread.becomesOther();
  expect(await unread.baseless()).toEqual([]);
  expect(await unread.asked()).toEqual([["3"], ["1", "2"]]);
});

test("in a mirror a change of a row that was refused is left out and its key read, also after the letter was discarded", async () => {
  await using one = await history("mirror");
  await one.deadLetters.add(batch(), 1, refusal);
  expect(await one.asked()).toEqual([["1", "3"], ["2"]]);
  const later = await one.discarded();
  expect(await one.kept(later)).toEqual(["1", "3"]);
  await one.state.snapshots.addKeys("h", users.id, [["1"]]);
  expect(await one.kept(later)).toEqual(["1", "3"]);
});

test("not for a table that is read again, or is another one by now", async () => {
  const none = [["3"], ["1", "2"]];
  await using read = await history();
  await read.state.snapshots.add({ tableId: users.id, sink: "h", scope: { kind: "table" }, reason: "a test" });
  expect(await read.asked()).toEqual(none);
  await using other = await history();
  other.becomesOther();
  expect(await other.asked()).toEqual(none);
});

test("a change that the target refuses becomes no dead letter: the row may be one that nobody may see", async () => {
  await using one = await history();
  expect(await one.refused(0, 2)).toEqual([["3"], ["1"]]);
});
