/** What must hold at every moment. */
import type { Checkpoint } from "../../src/core/checkpoint.ts";
import type { DeadLetter } from "../../src/core/contracts/state-store.ts";
import type { MillraceError } from "../../src/core/errors.ts";
import { comparePositions, type Position, serializePosition } from "../../src/core/model/position.ts";
import type { Row, Table } from "./database.ts";
import type { KeptColumn } from "./ruling.ts";
import type { Target, TargetWatch } from "./targets.ts";

/** A promise of the product that was broken. */
export class Violation extends Error {
  override readonly name = "Violation";
}

/** What must have happened for a daemon to end with these errors. */
const ENDS: Readonly<Record<string, readonly string[]>> = {
  MR1210: ["second daemon", "stands still", "clock"],
  MR1213: ["second daemon", "stands still", "clock", "export", "recover", "reset"],
  MR2012: ["crash", "state lost", "state restored", "second daemon", "source restored"],
  MR2010: ["slot lost", "purge", "source restored", "state restored", "export", "state lost", "recover"],
  MR2013: ["source restored", "failover"],
};

/** What may have a sink replay the log: whoever reads a stream gets the changes since then once more. */
const REPLAYS: ReadonlySet<string> = new Set([
  "reset",
  "snapshot",
  "recover",
  "export",
  "state restored",
  "state lost",
  "teardown",
  "without sink",
  "sink restored",
  "pause table",
]);

/** What is planned to happen. */
interface Planned {
  readonly happenings: readonly { readonly what: string }[];
}

function mayReplay({ happenings }: Planned): boolean {
  return happenings.some(({ what }) => REPLAYS.has(what));
}

interface Shown {
  /** Number of the state of the row that was seen last, and where it was committed. */
  readonly count: number;
  readonly commit: bigint;
  /** Where what has removed it since was committed; null: it is there. */
  goneAt: bigint | null;
}

export class Checks implements TargetWatch {
  violation: Violation | null = null;
  /** The source was put back: what is older can't be told any more. */
  hasTimeGoneBack = false;
  /** By target, table and key. */
  readonly #shown = new Map<Target, Map<string, Shown>>();
  /** How far each target ever was. */
  readonly #reached = new Map<Target, Position>();
  /** What targets lack before these places is owed: it is read later. */
  readonly #givenUp = new Map<Target, Position>();

  readonly #commitsOf: (count: number) => readonly bigint[];
  readonly #isHidden: (table: string, row: Row) => boolean;
  readonly #replays: boolean;

  /** `isHidden`: whether a row of a table has what rules hide. */
  constructor(
    plan: Planned,
    commitsOf: (count: number) => readonly bigint[],
    isHidden: (table: string, row: Row) => boolean = () => false,
  ) {
    this.#commitsOf = commitsOf;
    this.#isHidden = isHidden;
    this.#replays = mayReplay(plan);
  }

  fail(text: string): void {
    this.violation ??= new Violation(text);
  }

  askedMeanwhile({ traits }: Target): void {
    this.fail(`an inspection of ${traits.name} is asked for rows while it reads others`);
  }

  triedForEver({ traits }: Target): void {
    this.fail(`${traits.name}: the same step is tried again and again`);
  }

  /** The target was changed by somebody else: what it showed before tells nothing any more. */
  forget(target: Target): void {
    this.#shown.delete(target);
  }

  /** A row never goes back behind a commit that it showed. The replay of one that came in parts may show its earlier parts. */
  shown(target: Target, table: string, key: string, row: Row | null, version: bigint): void {
    if (row !== null && this.#isHidden(table, row))
      this.fail(`${target.traits.name} shows ${table}/${key} in clear: ${row.join()}`);
    if (target.traits.isStream && this.#replays) return;
    let shown = this.#shown.get(target);
    if (shown === undefined) this.#shown.set(target, (shown = new Map()));
    const id = `${table}/${key}`;
    const before = shown.get(id);
    if (row === null) {
      if (before !== undefined) before.goneAt = commitIn(version);
      return;
    }
    const count = Number(row[1]);
    // A row that came back with its partition was committed twice, and the log tells of the first time.
    const commits = this.#commitsOf(count);
    const isNoBatchBack = (one: bigint): boolean => before === undefined || !this.#isBack(before, count, one);
    const commit = commits.find(isNoBatchBack) ?? commits.at(-1) ?? 0n;
    if (!this.hasTimeGoneBack && before !== undefined && this.#isBack(before, count, commit)) {
      const was = before.goneAt === null ? "" : `, then nothing by ${before.goneAt},`;
      this.fail(
        `${target.traits.name} ${id} went back: it showed ${before.count} of ${before.commit}${was} and shows ${count} of ${commit}`,
      );
    }
    shown.set(id, { count, commit, goneAt: null });
  }

  forgotten(target: Target, table: string, key: string): void {
    this.#shown.get(target)?.delete(`${table}/${key}`);
  }

  #isBack(before: Shown, count: number, commit: bigint): boolean {
    if (commit !== before.commit) return commit < before.commit;
    return before.goneAt !== null && before.goneAt > commit && count <= before.count;
  }

  /** Where rows and checkpoint are one, no change of the log is applied twice. */
  applied(target: Target, change: Position, checkpoint: Checkpoint | null): void {
    if (checkpoint === null || comparePositions(change, checkpoint.position) >= 0) return;
    const [at, stood] = [change, checkpoint.position].map(serializePosition);
    this.fail(`${target.traits.name} was given ${at} although it stood at ${stood}`);
  }

  throwViolation(): void {
    if (this.violation !== null) throw this.violation;
  }

  /** A daemon may end by itself only for what was done to it. */
  ended({ code, message }: MillraceError, { happenings }: Planned): void {
    const causes = ENDS[code] ?? [];
    if (!happenings.some(({ what }) => causes.includes(what))) this.fail(`the daemon ended: ${code} ${message}`);
  }

  /** Every sink holds what the source has; rows of which a letter waits are known to differ. */
  equal(
    tables: readonly Table[],
    { expected, keptOf, mayKeep }: Expectation,
    targets: readonly Target[],
    letters: readonly DeadLetter[] = [],
  ): void {
    const isRefused = refusedBy(letters);
    for (const target of targets) {
      const { name } = target.traits;
      for (const table of tables) {
        const rows = expected(table);
        const isSame = sameBut(keptOf(table) ?? [], table.dropped);
        const held = target.tables.get(table.shape.id)?.rows;
        for (const [key, row] of rows) {
          if (isRefused(name, table.shape.id, key)) continue;
          const found = held?.get(key)?.row;
          if (found === undefined && target.evicted.has(`${table.shape.id}/${key}`)) continue;
          if (found === undefined) throw new Violation(`${name} lacks ${table.name}/${key}: ${row.join()}`);
          if (!isSame(found, row))
            throw new Violation(`${name} has ${table.name}/${key} as ${found.join()} in place of ${row.join()}`);
        }
        if (mayKeep?.(target) === true) continue;
        for (const [key, { row }] of held ?? []) {
          if (!rows.has(key) && !isRefused(name, table.shape.id, key))
            throw new Violation(`${name} still has ${table.name}/${key}: ${row.join()}`);
        }
      }
    }
  }

  /** Whatever it showed, or was, before counts no more. */
  restart(target: Target): void {
    this.forget(target);
    this.#reached.delete(target);
  }

  giveUp(target: Target, place: Position): void {
    this.#givenUp.set(target, place);
  }

  progressed(target: Target, { position }: Checkpoint): void {
    const place = this.#givenUp.get(target);
    if (place !== undefined && comparePositions(position, place) >= 0) this.#givenUp.delete(target);
    const reached = this.#reached.get(target);
    // It goes to an earlier epoch only as somebody resets it.
    const isReset = reached !== undefined && position.epoch < reached.epoch;
    if (reached === undefined || isReset || comparePositions(position, reached) > 0)
      this.#reached.set(target, position);
  }

  /** The source may forget what lies before `commit`. What a target says that it does not hold is owed: it is read as a whole. */
  acknowledged(commit: bigint, epoch: number, targets: readonly Target[], tableIds: readonly string[]): void {
    for (const target of targets) {
      const held = target.checkpoint?.tables ?? {};
      if (this.#givenUp.has(target)) continue;
      if (Object.keys(held).length === 0 || !tableIds.every((id) => held[id] !== undefined)) continue;
      const reached = this.#reached.get(target);
      if (reached === undefined || reached.epoch < epoch) continue;
      if (commit > reached.commit)
        this.fail(`${commit} was acknowledged although ${target.traits.name} has never been beyond ${reached.commit}`);
    }
  }
}

/** What sinks are to have. */
export interface Expectation {
  readonly expected: (table: Table) => ReadonlyMap<string, Row>;
  /** Null: as many columns as the source. */
  readonly keptOf: (table: Table) => readonly KeptColumn[] | null;
  /** Whether the target is not told of each row that is gone. Absent: all are. */
  readonly mayKeep?: (target: Target) => boolean;
}

/** Where sinks keep a column that is gone, rows that were written before may have it. */
function sameBut(kept: readonly KeptColumn[], dropped: ReadonlyMap<number, number>): (found: Row, row: Row) => boolean {
  const lastWith = kept.map(({ identity }) => dropped.get(identity) ?? 0);
  return (found, row) =>
    found.length === row.length &&
    found.every((cell, i) => cell === row[i] || (row[i] === null && Number(row[1]) <= (lastWith[i] ?? 0)));
}

/** Whether a letter waits of this row. */
export function refusedBy(letters: readonly DeadLetter[]): (sink: string, tableId: string, key: string) => boolean {
  const refused = new Set(letters.map(({ sink, tableId, key }) => `${sink} ${tableId} ${key.join(":")}`));
  return (sink, tableId, key) => refused.has(`${sink} ${tableId} ${key}`);
}

const COMMIT_MASK = (1n << 55n) - 1n;

function commitIn(version: bigint): bigint {
  return version & COMMIT_MASK;
}
