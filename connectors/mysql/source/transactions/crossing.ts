/**
 * Another host of the replication set replaces the one that was read.
 *
 * Positions mean nothing there: its log has other files, and the same transactions at other offsets, beside some of its own.
 * Names of transactions (GTIDs) are the same everywhere. So for the position of every sink, `ReadTransactions` knows the set
 * of names before it, and the last one. A cut is the position in the new log with exactly these names before it:
 *
 *   former host   … A:7  A:8 ┊ A:9                 ┊ a sink's position; it has A:1-8
 *                            ┊
 *   new host      … A:7  A:8 ┊ B:1  A:9  B:2 …     the cut: everything before it was read, nothing after it
 *
 *   1. sets     The new host has executed all that was read, and has purged nothing that was not.
 *   2. tables   Then the catalogue is looked at, then the end of the log is asked for: what is created or altered behind that
 *               end is seen by the next look.
 *   3. start    The newest file that begins before every cut, and has each sink's last transaction in it or behind it.
 *   4. walk     From there to the end, each transaction is either in a cut's set or not. The first that is not is the cut.
 *               A name of the set behind it has no certain place, and is refused; so is the last name with another time,
 *               which a reset has given again, and a transaction without a name.
 *   5. begin    The stream begins at the lowest cut. Tables keep their generations if no statement that alters one lies
 *               before that, for then the last look at the former host's catalogue holds here, too.
 *
 * A sink's position alone, or a wait until both hosts agree, can't do this: after a lost transaction the hosts never agree,
 * and a host that is ahead would have its own transactions passed by. Where the names are not certain, nothing is guessed:
 * the operator learns what is missing (MR2013). Decision 10.
 */
import type { Crossing } from "../../../../src/core/contracts/log-admin.ts";
import type { SourceTables } from "../catalog/source-tables.ts";
import { GtidSet, parseGtid } from "../events/gtid-set.ts";
import type { SeenTransaction } from "../events/log-interpreter.ts";
import { setBefore, walkLog } from "../events/log-walk.ts";
import type { LogFiles } from "../wire/log-files.ts";
import { startOf, unpackPosition } from "../wire/position.ts";
import type { Server } from "../wire/server.ts";
import type { ReadBefore, ReadTransactions } from "./read-transactions.ts";

/** Makes the error from what is not certain. */
type Refuse = (what: string) => Error;

export class HostCrossing {
  readonly #server: Server;
  readonly #files: LogFiles;
  readonly #tables: SourceTables;
  readonly #read: ReadTransactions;

  constructor(server: Server, files: LogFiles, tables: SourceTables, read: ReadTransactions) {
    this.#server = server;
    this.#files = files;
    this.#tables = tables;
    this.#read = read;
  }

  /** `positions`: the sinks' positions in the former log. */
  async cross(positions: readonly bigint[], refuse: Refuse, signal: AbortSignal): Promise<Omit<Crossing, "identity">> {
    const cuts = this.#cuts(positions);
    if (cuts.length === 0) throw refuse("which transactions were read is not known (GTIDs are off)");
    const [first] = await this.#files.read(signal);
    await this.#checkSets(cuts, first?.file ?? 0, refuse, signal);
    // Invariant: the log is searched up to a position; the next look sees what is created or altered after it.
    const { generations } = await this.#tables.select(false, signal);
    const end = await this.#files.tip(signal);
    const from = startOf(await this.#firstFile(cuts, refuse, signal));
    let definedAt = -1n;
    const onTransaction = (start: bigint, seen: SeenTransaction): boolean => {
      for (const cut of cuts) cut.take(start, seen);
      return cuts.every(({ fault }) => fault === undefined);
    };
    const onDefinition = (start: bigint): void => {
      definedAt = start;
    };
    await walkLog(this.#server, from, end, { onTransaction, onDefinition }, signal);
    for (const { fault } of cuts) if (fault !== undefined) throw refuse(fault);
    const found = new Map(cuts.map((cut) => [cut.position, cut.start ?? end]));
    const lowest = [...found.values()].reduce((low, position) => (position < low ? position : low));
    const before = definedAt < lowest ? (this.#read.generations ?? {}) : {};
    this.#read.begin(
      cuts.map(({ position, read }): [bigint, ReadBefore] => [found.get(position)!, read]),
      Object.fromEntries(generations),
    );
    return { positions: found, from: lowest, end, generations: paired(before, generations) };
  }

  /** What is before a position in the log, from what is known and from the log itself; undefined if that is unknown. */
  async before(position: bigint, signal: AbortSignal): Promise<ReadBefore | undefined> {
    const { flavour, hasGtids } = await this.#server.facts(signal);
    const isMysql = flavour === "mysql";
    if (isMysql && !hasGtids) return undefined;
    const known = this.#read.before(position);
    const { file } = unpackPosition(position);
    if (known !== undefined && known[0] >= startOf(file))
      return await this.#walked(known[0], position, known[1], signal);
    let found = await this.#walked(startOf(file), position, undefined, signal);
    if (found?.last === null) await this.#files.read(signal);
    // Nothing was read yet in a file that has just begun.
    const earlier = this.#files.sizes.filter((other) => other.file < file).toReversed();
    for (const other of earlier) {
      if (found === undefined || found.last !== null) break;
      const last = (await this.#walked(startOf(other.file), startOf(file), undefined, signal))?.last ?? null;
      found = { ...found, last };
    }
    if (!isMysql || found === undefined) return found;
    // These came with the server's data, before anything in its log.
    const purged = await this.#set("gtid_purged", signal);
    if (purged === undefined) return undefined;
    found.set.addAll(purged);
    return found;
  }

  #cuts(positions: readonly bigint[]): readonly Cut[] {
    const cuts = new Map<bigint, Cut>();
    // The stored names show that the host belongs to the set, even if every sink has moved on since.
    for (const position of [...positions, ...this.#read.positions]) {
      const known = this.#read.at(position);
      // A transaction that was never seen can't be recognised.
      if (known !== undefined && (known.last !== null || known.set.isEmpty))
        cuts.set(position, new Cut(position, known));
    }
    return [...cuts.values()];
  }

  /** The host must have everything that was read, and must have purged nothing that was not read. */
  async #checkSets(cuts: readonly Cut[], firstFile: number, refuse: Refuse, signal: AbortSignal): Promise<void> {
    const isMysql = (await this.#server.facts(signal)).flavour === "mysql";
    const executed = await this.#set(isMysql ? "gtid_executed" : "gtid_binlog_state", signal);
    const purged = isMysql ? await this.#set("gtid_purged", signal) : await setBefore(this.#server, firstFile, signal);
    if (executed === undefined || purged === undefined) throw refuse("its sets of GTIDs can't be read");
    for (const { read } of cuts) {
      if (!read.set.isWithin(executed)) throw refuse(`it has ${named(executed)}, and ${named(read.set)} was read`);
      if (!purged.isWithin(read.set)) throw refuse(`it has purged ${named(purged)}, and ${named(read.set)} was read`);
    }
  }

  async #set(variable: string, signal: AbortSignal): Promise<GtidSet | undefined> {
    const { flavour } = await this.#server.facts(signal);
    const doing = "asking which transactions the server has";
    const [row] = await this.#server.rows(doing, `SELECT @@GLOBAL.${variable}`, signal);
    return GtidSet.ofServer(row?.[0] ?? "", flavour);
  }

  /** The newest file with only read transactions before it and the last read transaction in it. */
  async #firstFile(cuts: readonly Cut[], refuse: Refuse, signal: AbortSignal): Promise<number> {
    for (const { file } of this.#files.sizes.toReversed()) {
      const before = await setBefore(this.#server, file, signal);
      const isBelow = ({ read: { last, set } }: Cut): boolean =>
        before?.isWithin(set) === true && (last === null || !before.has(parseGtid(last.gtid)!));
      if (cuts.every(isBelow)) return file;
    }
    throw refuse("its log has no more what was read last, by which the rest could be told");
  }

  async #walked(
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
    await walkLog(this.#server, from, until, { onFile, onTransaction }, signal);
    return isNamed && set !== undefined ? { set, last } : undefined;
  }
}

/** The position between what a sink has and what it lacks. */
class Cut {
  readonly position: bigint;
  readonly read: ReadBefore;
  /** The first transaction that was not read. */
  start: bigint | undefined;
  #first = "";
  /** Why no position is right. */
  fault: string | undefined;

  constructor(position: bigint, read: ReadBefore) {
    this.position = position;
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

const NAMED_CHARACTERS_MAX = 300;

function named(set: GtidSet): string {
  if (set.isEmpty) return "nothing";
  const text = set.toString();
  return text.length > NAMED_CHARACTERS_MAX ? `${text.slice(0, NAMED_CHARACTERS_MAX)}…` : text;
}

function paired(before: Readonly<Record<string, string>>, now: ReadonlyMap<string, string>): Crossing["generations"] {
  const pairs = new Map<string, { readonly before: string; readonly now: string }>();
  for (const [id, generation] of now) {
    const former = before[id];
    if (former !== undefined) pairs.set(id, { before: former, now: generation });
  }
  return pairs;
}
