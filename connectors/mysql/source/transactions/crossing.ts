/**
 * Another host of the replication set replaces the one that was read. Millrace continues in its log if, by the names of
 * transactions, the log holds everything that was read and the position is certain: everything before it was read, and
 * nothing after it. Decision 10.
 */
import type { Crossing } from "../../../../src/core/contracts/log-admin.ts";
import type { SourceContext } from "../context.ts";
import { GtidSet, parseGtid } from "./gtid-set.ts";
import { readFiles, readTip } from "../log/log-state.ts";
import { setBefore, walkLog } from "../log/log-walk.ts";
import { unpackPlace } from "../log/position.ts";
import type { ReadBefore, SeenTransaction } from "./read-transactions.ts";
import { selectTables } from "../catalog/selection.ts";
import type { ServerFacts } from "../server.ts";
import { another, identityAt, startOf } from "../start.ts";

/** `why`: how the host differs from the former one. `places`: the sinks' positions in the former log. */
export async function crossLog(
  context: SourceContext,
  facts: ServerFacts,
  why: string,
  places: readonly bigint[],
  signal: AbortSignal,
): Promise<Crossing> {
  const refuse = (what: string): Error => another(`${why}; Millrace can't continue in it: ${what}`);
  const cuts = cutsOf(context, places);
  if (cuts.length === 0) throw refuse("which transactions were read is not known (GTIDs are off)");
  const [first] = await readFiles(context, signal);
  await checkSets(context, facts, { cuts, firstOfLog: first?.file ?? 0, refuse }, signal);
  // Invariant: the log is searched up to a position; the next look sees what is created or altered after it.
  const { generations } = await selectTables(context, false, signal);
  const end = await readTip(context, signal);
  const from = startOf(await firstFile(context, cuts, refuse, signal));
  let definedAt = -1n;
  const onTransaction = (start: bigint, seen: SeenTransaction): boolean => {
    for (const cut of cuts) cut.take(start, seen);
    return cuts.every(({ fault }) => fault === undefined);
  };
  const onDefinition = (start: bigint): void => {
    definedAt = start;
  };
  await walkLog(context, from, end, { onTransaction, onDefinition }, signal);
  for (const { fault } of cuts) if (fault !== undefined) throw refuse(fault);
  const found = new Map(cuts.map((cut) => [cut.place, cut.start ?? end]));
  const lowest = [...found.values()].reduce((low, place) => (place < low ? place : low));
  const before = definedAt < lowest ? (context.read.generations ?? {}) : {};
  context.read.begin(
    cuts.map(({ place, read }): [bigint, ReadBefore] => [found.get(place)!, read]),
    Object.fromEntries(generations),
  );
  const identity = await identityAt(context, facts, unpackPlace(lowest).file, signal);
  return { identity, places: found, from: lowest, end, generations: paired(before, generations) };
}

function cutsOf({ read }: SourceContext, places: readonly bigint[]): Cut[] {
  const cuts = new Map<bigint, Cut>();
  // The stored names show that the host belongs to the set, even if every sink has moved on since.
  for (const place of [...places, ...read.places]) {
    const known = read.at(place);
    // A transaction that was never seen can't be recognised.
    if (known !== undefined && (known.last !== null || known.set.isEmpty)) cuts.set(place, new Cut(place, known));
  }
  return [...cuts.values()];
}

/** The position between what a sink has and what it lacks. */
class Cut {
  readonly place: bigint;
  readonly read: ReadBefore;
  /** The first transaction that was not read. */
  start: bigint | undefined;
  #first = "";
  /** Why no position is right. */
  fault: string | undefined;

  constructor(place: bigint, read: ReadBefore) {
    this.place = place;
    this.read = read;
  }

  take(start: bigint, { gtid, time }: SeenTransaction): void {
    const { last, set } = this.read;
    const name = parseGtid(gtid);
    if (name === undefined) {
      this.fault ??= "its log has a transaction without a name that Millrace can compare";
    } else if (!set.has(name)) {
      if (this.start === undefined) this.#first = gtid;
      this.start ??= start;
    } else if (this.start !== undefined) {
      this.fault ??= `its log has ${this.#first}, which was not read, before ${gtid}, which was`;
    } else if (gtid === last?.gtid && time !== last.time) {
      this.fault ??= `its ${gtid} is another transaction than the one that was read`;
    }
  }
}

interface CutsToCheck {
  readonly cuts: readonly Cut[];
  readonly firstOfLog: number;
  readonly refuse: (what: string) => Error;
}

/** The host must have everything that was read, and must have purged nothing that was not read. */
async function checkSets(
  context: SourceContext,
  { flavour }: ServerFacts,
  { cuts, firstOfLog, refuse }: CutsToCheck,
  signal: AbortSignal,
): Promise<void> {
  const asked = async (variable: string): Promise<GtidSet | undefined> => {
    const doing = "asking which transactions the server has";
    const [row] = await context.database.rows(doing, `SELECT @@GLOBAL.${variable}`, signal);
    return GtidSet.ofServer(row?.[0] ?? "", flavour);
  };
  const isMysql = flavour === "mysql";
  const executed = await asked(isMysql ? "gtid_executed" : "gtid_binlog_state");
  const purged = isMysql ? await asked("gtid_purged") : await setBefore(context, firstOfLog, signal);
  if (executed === undefined || purged === undefined) throw refuse("its sets of GTIDs can't be read");
  for (const { read } of cuts) {
    if (!read.set.isWithin(executed)) throw refuse(`it has ${named(executed)}, and ${named(read.set)} was read`);
    if (!purged.isWithin(read.set)) throw refuse(`it has purged ${named(purged)}, and ${named(read.set)} was read`);
  }
}

const NAMED_CHARACTERS_MAX = 300;

function named(set: GtidSet): string {
  if (set.isEmpty) return "nothing";
  const text = set.toString();
  return text.length > NAMED_CHARACTERS_MAX ? `${text.slice(0, NAMED_CHARACTERS_MAX)}…` : text;
}

/** The newest file with only read transactions before it and the last read transaction in it. */
async function firstFile(
  context: SourceContext,
  cuts: readonly Cut[],
  refuse: (what: string) => Error,
  signal: AbortSignal,
): Promise<number> {
  for (const { file } of context.files.toReversed()) {
    const before = await setBefore(context, file, signal);
    const isBelow = ({ read: { last, set } }: Cut): boolean =>
      before?.isWithin(set) === true && (last === null || !before.has(parseGtid(last.gtid)!));
    if (cuts.every(isBelow)) return file;
  }
  throw refuse("its log has no more what was read last, by which the rest could be told");
}

function paired(before: Readonly<Record<string, string>>, now: ReadonlyMap<string, string>): Crossing["generations"] {
  const pairs = new Map<string, { readonly before: string; readonly now: string }>();
  for (const [id, generation] of now) {
    const former = before[id];
    if (former !== undefined) pairs.set(id, { before: former, now: generation });
  }
  return pairs;
}

/** What is before a position in the log, from what is known and from the log itself; undefined if that is unknown. */
export async function readBefore(
  context: SourceContext,
  { flavour, hasGtids }: ServerFacts,
  place: bigint,
  signal: AbortSignal,
): Promise<ReadBefore | undefined> {
  const isMysql = flavour === "mysql";
  if (isMysql && !hasGtids) return undefined;
  const known = context.read.before(place);
  const { file } = unpackPlace(place);
  if (known !== undefined && known[0] >= startOf(file)) return await walked(context, known[0], place, known[1], signal);
  let found = await walked(context, startOf(file), place, undefined, signal);
  if (found?.last === null) await readFiles(context, signal);
  // Nothing was read yet in a file that has just begun.
  const earlier = context.files.filter((other) => other.file < file).toReversed();
  for (const other of earlier) {
    if (found === undefined || found.last !== null) break;
    const last = (await walked(context, startOf(other.file), startOf(file), undefined, signal))?.last ?? null;
    found = { ...found, last };
  }
  if (!isMysql || found === undefined) return found;
  // These came with the server's data, before anything in its log.
  const [row] = await context.database.rows("asking for gtid_purged", "SELECT @@GLOBAL.gtid_purged", signal);
  const purged = GtidSet.parse(row?.[0] ?? "");
  if (purged === undefined) return undefined;
  found.set.addAll(purged);
  return found;
}

async function walked(
  context: SourceContext,
  from: bigint,
  until: bigint,
  known: ReadBefore | undefined,
  signal: AbortSignal,
): Promise<ReadBefore | undefined> {
  let set = known?.set.clone();
  let last = known?.last ?? null;
  let isNamed = true;
  const onFile = (before: GtidSet | undefined): boolean => {
    set ??= before;
    return set !== undefined;
  };
  const onTransaction = (_: bigint, seen: SeenTransaction): boolean => {
    const name = parseGtid(seen.gtid);
    isNamed = name !== undefined && set !== undefined;
    if (name !== undefined) set?.addRead(name);
    last = seen;
    return isNamed;
  };
  await walkLog(context, from, until, { onFile, onTransaction }, signal);
  return isNamed && set !== undefined ? { set, last } : undefined;
}
