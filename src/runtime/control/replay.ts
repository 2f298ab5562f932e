/** Dead letters that an operator settles: rows that a target refused are read from the source again, or given up. */
import type { Clock } from "../../core/clock.ts";
import type { LetterChoice, Replayed } from "../../core/contracts/orders.ts";
import type { DeadLetter, LetterChange, StateStore } from "../../core/contracts/state-store.ts";
import type { News } from "../../core/waiting.ts";
import { keyShape } from "../../core/model/row-id.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { entry } from "../schema/suspended-tables.ts";

interface ReplayParts {
  readonly clock: Clock;
  /** Notified when a read has ended. */
  readonly news: News;
  readonly state: StateStore;
  /** The present version of a table that flows to the sink. */
  readonly table: (sink: string, id: string) => TableVersion | undefined;
  /** Keys were listed. */
  readonly onKeys: () => void;
}

export const DISCARD: LetterChange = { from: "waiting", to: "discarded" };
const REPLAYED: LetterChange = { from: "superseded", to: "replayed" };

/** How often the list of keys is looked at while nothing is told. */
const LOOK_MS = 1_000;

/** The letters that are meant, and numbers under which there is none. */
export async function chosenLetters(
  { deadLetters }: Pick<StateStore, "deadLetters">,
  { ids, sink }: LetterChoice,
): Promise<{ readonly letters: readonly DeadLetter[]; readonly unknown: readonly number[] }> {
  const ofSink = sink === null ? {} : { sink };
  if (ids === null) return { letters: await deadLetters.list({ ...ofSink, state: "waiting" }), unknown: [] };
  const found = await Promise.all(ids.map(async (id) => [id, await deadLetters.get(id)] as const));
  const letters = found.flatMap(([, letter]) =>
    letter === null || (sink !== null && letter.sink !== sink) ? [] : [letter],
  );
  return { letters, unknown: found.flatMap(([id, letter]) => (letter === null ? [id] : [])) };
}

/**
 * Lists the letters' keys, whose rows the sinks then read from the source. The row as it is now counts, so a letter never
 * brings an older state back.
 */
export async function listKeysOf(
  letters: readonly DeadLetter[],
  { state, table }: Pick<ReplayParts, "state" | "table">,
): Promise<readonly DeadLetter[]> {
  const waiting = letters.filter(
    (letter) => letter.state === "waiting" && table(letter.sink, letter.tableId) !== undefined,
  );
  for (const { sink, tableId, keys } of byTable(waiting)) {
    await state.snapshots.addKeys(sink, tableId, keys, keyShape(table(sink, tableId)!));
  }
  return waiting;
}

/** Resolves when the rows of all letters were read and given to their sinks, or when `until` is aborted. */
export async function replay(
  letters: readonly DeadLetter[],
  parts: ReplayParts,
  until: AbortSignal,
): Promise<Replayed> {
  const { clock, news, state, onKeys } = parts;
  const listed = await listKeysOf(letters, parts);
  onKeys();
  let left = listed;
  for (let told = news.count; left.length > 0 && !until.aborted; told = news.count) {
    left = await stillListed(left, state);
    if (left.length > 0) await news.after(told, clock, LOOK_MS, until).catch(() => undefined);
  }
  const ended = listed.filter((letter) => !left.includes(letter));
  const { deadLetters } = state;
  const superseded = await Promise.all(
    ended.map(async ({ id }) => (await deadLetters.get(id))?.state === "superseded"),
  );
  const done = ended.filter((_, i) => superseded[i]);
  await deadLetters.settle(
    done.map(({ id }) => id),
    REPLAYED,
  );
  const refused = letters.filter((letter) => letter.state === "waiting" && !done.includes(letter));
  return {
    replayed: done.length,
    superseded: letters.filter((letter) => letter.state !== "waiting").length,
    failed: refused.length,
    waiting: await waitingFor(refused, state),
  };
}

async function stillListed(letters: readonly DeadLetter[], { snapshots }: StateStore): Promise<readonly DeadLetter[]> {
  const left: DeadLetter[] = [];
  for (const { sink, tableId, keys, together } of byTable(letters)) {
    const listed = await snapshots.listed(sink, tableId, keys);
    left.push(...together.filter((_, i) => listed.has(i)));
  }
  return left;
}

function byTable(letters: readonly DeadLetter[]) {
  const groups = Map.groupBy(letters, ({ sink, tableId }) => entry(sink, tableId));
  return [...groups.values()].map((together) => {
    const { sink, tableId } = together[0]!;
    return { sink, tableId, keys: together.map(({ key }) => key), together };
  });
}

/** A row that is refused again has another letter. */
async function waitingFor(refused: readonly DeadLetter[], { deadLetters }: StateStore): Promise<readonly number[]> {
  if (refused.length === 0) return [];
  const placeOf = ({ sink, tableId, key }: DeadLetter): string => JSON.stringify([sink, tableId, key]);
  const places = new Set(refused.map(placeOf));
  const waiting = await deadLetters.list({ state: "waiting" });
  return waiting.filter((letter) => places.has(placeOf(letter))).map(({ id }) => id);
}
