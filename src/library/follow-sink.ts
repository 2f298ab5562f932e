import { withoutTables, type Checkpoint } from "../core/checkpoint.ts";
import { scopeOf } from "../core/clock.ts";
import type { Outcome, ReadersHold, Sink, TargetEvolution } from "../core/contracts/sink.ts";
import type { StateStore } from "../core/contracts/state-store.ts";
import type { Batch, TableWrites } from "../core/model/batch.ts";
import { commitOf, epochOf, type Position, rowVersion } from "../core/model/position.ts";
import type { Block } from "../core/model/block.ts";
import { tableId, type TableVersion } from "../core/model/schema.ts";
import { CommitWalk, isWhole, type RowsBatch, transactionOf } from "../../connectors/kit/ordered-changes.ts";
import type { Change } from "./api.ts";
import { type Changes, isHalf } from "./changes.ts";
import { libraryError } from "./errors.ts";
import type { Handover, Keeper, Piece } from "./handover.ts";

interface FollowSinkParts {
  readonly name: string;
  readonly changes: Changes;
  readonly handover: Handover;
  readonly keeper: Keeper;
  /** Positions are the program's own: it gets each of them, also those of an idle source. */
  readonly isOwn: boolean;
  /** Set where the state ends with the process, and a position has to say what is left to read. */
  readonly passing: Pick<StateStore, "snapshots" | "suspensions"> | null;
  /** Whether tables that lack rows are read by themselves. */
  readonly reads: boolean;
  readonly completes: boolean;
  readonly limits: { readonly rowCountMax: number; readonly byteCountMax: number };
  /** How a checkpoint is written for the program. */
  readonly spell: () => Promise<(checkpoint: Checkpoint) => string>;
  /** The program ends it. */
  readonly stopping: AbortSignal;
}

/** A transaction in a batch, or the part of it that the batch has. */
interface Part {
  /** Null: the rows were read, and are of none. */
  readonly version: bigint | null;
  readonly commitTime: string | null;
  /** Behind its last change; null: it has none. */
  readonly end: Position | null;
  readonly make: () => readonly Change[];
}

/**
 * The program as a sink of the form `stream`: the runtime's batches become transactions, which wait until the program asks for
 * them (`Handover`). `apply` resolves when the program has done all of a batch, so everything that the runtime builds on a
 * durable batch holds for a program: what is acknowledged, what is read again, when a table is complete.
 */
export class FollowSink implements Sink {
  readonly kind = "follow";
  readonly form = "stream";
  readonly delivery = "transactional";
  readonly onLost = "fail";
  /** What the program keeps of its rows may come from before a state that was lost. */
  readonly isLoadedElsewhere = true;
  readonly storesFirst = true;
  readonly name: string;
  readonly batchLimits: FollowSinkParts["limits"];
  /** Rows that a program keeps have the columns by name: an added one that is null in all rows changes none of them. */
  readonly evolution: TargetEvolution = { carries: async () => true };
  readonly #parts: FollowSinkParts;
  #stored: Checkpoint | null = null;
  /** The version of a transaction of which the program has a part, and not the end. */
  #open: bigint | null = null;
  /** Fingerprints of the shapes that the program was told of, by table. */
  readonly #told = new Map<string, string>();
  #untold: TableVersion[] = [];

  constructor(parts: FollowSinkParts) {
    this.#parts = parts;
    this.name = parts.name;
    this.batchLimits = parts.limits;
  }

  target({ schema, table }: Pick<TableVersion, "schema" | "table">): string {
    return tableId(schema, table);
  }

  readersHold(): ReadersHold {
    return this.#parts.completes ? "none" : "all";
  }

  /** Invariant: what the program has in its hands is done before it gets anything again. */
  async open(_lease: number, signal: AbortSignal): Promise<Checkpoint | null> {
    this.#parts.stopping.throwIfAborted();
    await this.#parts.handover.settled(signal);
    this.#stored = await this.#parts.keeper.load();
    const { epoch, commit, index } = this.#stored?.position ?? { epoch: 0, commit: 0n, index: 0 };
    this.#open = index > 0 ? rowVersion(epoch, commit) : null;
    return this.#stored;
  }

  async look(signal: AbortSignal): Promise<Checkpoint | null> {
    signal.throwIfAborted();
    return this.#stored ?? (await this.#parts.keeper.load());
  }

  async prepare(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    for (const table of tables) {
      if (this.#told.get(table.id) === table.fingerprint) continue;
      this.#told.set(table.id, table.fingerprint);
      this.#untold = [...this.#untold.filter(({ id }) => id !== table.id), table];
    }
  }

  async apply(batch: Batch, _outcome: Outcome, signal: AbortSignal): Promise<void> {
    const { handover, keeper, isOwn, changes } = this.#parts;
    const { checkpoint } = batch;
    const text = await this.#texts();
    const parts = this.#partsOf(batch);
    const shapes = this.#untold;
    const isWanted = isOwn || shapes.length > 0;
    if (parts.length === 0 && isWanted)
      parts.push({ version: this.#open, commitTime: null, end: null, make: () => [] });
    using scope = scopeOf(signal, this.#parts.stopping);
    for (const [i, { version, commitTime, end, make }] of parts.entries()) {
      const isFinal = i === parts.length - 1;
      const done = isFinal ? checkpoint : this.#checkpointAt(end, checkpoint);
      const isLast = version === null || !isFinal || isWhole(version, checkpoint.position);
      const piece: Piece = {
        make: () => (i > 0 ? make() : [...shapes.map((table) => changes.shape(table)), ...make()]),
        isLast,
        isSnapshot: version === null && batch.kind === "rows",
        version: version === null ? null : String(version),
        commitTime,
        hasNext: !isFinal,
        checkpoint: done,
        position: () => text(done),
      };
      await this.#give(piece, signal, scope.signal);
      if (i === 0) this.#untold = this.#untold.filter((table) => !shapes.includes(table));
      this.#open = isLast ? null : version;
    }
    if (parts.length === 0) await keeper.keep(checkpoint);
    else await handover.settled(signal);
    this.#stored = checkpoint;
  }

  /** A program that ends it may have some in its hands: those may still be done, within the grace of a batch. */
  async #give(piece: Piece, signal: AbortSignal, until: AbortSignal): Promise<void> {
    const { handover, stopping } = this.#parts;
    try {
      await handover.give(piece, until);
    } catch (error) {
      if (!signal.aborted && stopping.aborted) await handover.settled(signal);
      throw error;
    }
  }

  /** What a transaction without an own end in the log leaves: all that was stored before. */
  #checkpointAt(end: Position | null, final: Checkpoint): Checkpoint {
    const before = this.#stored ?? final;
    return end === null ? before : { ...before, position: end };
  }

  #partsOf(batch: Batch): Part[] {
    const open = this.#open;
    const parts = this.#newParts(batch);
    const isEnded =
      parts[0] === undefined ? open !== null && isWhole(open, batch.checkpoint.position) : parts[0].version !== open;
    if (open === null || !isEnded) return parts;
    return [{ version: open, commitTime: null, end: null, make: () => [] }, ...parts];
  }

  #newParts(batch: Batch): Part[] {
    const { changes } = this.#parts;
    switch (batch.kind) {
      case "rows":
        return this.#rows(batch);
      case "truncate": {
        const { record, version } = batch;
        const commitTime = record === undefined ? null : changes.timeOf(record.commitTimeUs);
        const end = placeAfter(version, record?.index ?? 0);
        return [{ version, commitTime, end, make: () => [changes.truncated(batch)] }];
      }
      case "sweep":
        return [
          { version: null, commitTime: null, end: null, make: () => batch.sweeps.map((sweep) => changes.read(sweep)) },
        ];
      case "checkpoint":
        return [];
      default:
        return batch satisfies never;
    }
  }

  /** Only where the entries are cut is decided here: a transaction is read when the program asks for it. */
  #rows(batch: RowsBatch): Part[] {
    const { changes } = this.#parts;
    const tables: TableWrites[] = [];
    const entries: number[] = [];
    const cuts: { readonly from: number; readonly version: bigint | null }[] = [];
    const stored = this.#stored?.position ?? null;
    let last: bigint | null | undefined;
    /** Of the entry before: most are of the same transaction, and comparing that costs nothing. */
    let block: Block | undefined;
    let tx: number | undefined;
    let version: bigint | null = null;
    /** Of that transaction, the first change that was not given before: a batch that was given in part is applied again. */
    let next = 0;
    new CommitWalk(batch).visit(Number.POSITIVE_INFINITY, (writes, entry, isMoved) => {
      if (isHalf(writes, entry, isMoved)) return;
      const ofEntry = writes.blocks[writes.block[entry]!]!;
      const ofRow = ofEntry.tx[writes.row[entry]!]!;
      if (version === null || ofEntry !== block || ofRow !== tx) {
        version = transactionOf(writes, entry);
        block = ofEntry;
        tx = ofRow;
        next = version === null || stored === null ? 0 : firstAfter(stored, version);
      }
      if (indexOf(writes, entry) < next) return;
      if (version !== last) cuts.push({ from: entries.length, version });
      last = version;
      tables.push(writes);
      entries.push(entry);
    });
    return cuts.map(({ from, version }, i) => {
      const to = cuts[i + 1]?.from ?? entries.length;
      const make = (): readonly Change[] => {
        const found: Change[] = [];
        const known = version === null ? undefined : changes.factsOf(tables[from]!, entries[from]!);
        for (let k = from; k < to; k++) found.push(changes.row(tables[k]!, entries[k]!, known));
        return found;
      };
      if (version === null) return { version, commitTime: null, end: null, make };
      const end = placeAfter(version, indexOf(tables[to - 1]!, entries[to - 1]!));
      return { version, commitTime: changes.timeOf(commitTimeOf(tables[from]!, entries[from]!)), end, make };
    });
  }

  /** What a position says beside the checkpoint. Where no state outlives the process, it names no table as read that is owed. */
  async #texts(): Promise<(checkpoint: Checkpoint) => string> {
    const { passing, reads, spell, name } = this.#parts;
    const spelled = await spell();
    if (passing === null) return spelled;
    const suspended = await passing.suspensions.list();
    const [first] = suspended;
    if (first !== undefined && !reads)
      throw libraryError("MR1173", `${first.tableId} can't be followed: ${first.error.message}`, {
        hint: first.error.hint ?? undefined,
      });
    const open = await passing.snapshots.list();
    const owed = new Set([
      ...suspended.map((table) => table.tableId),
      ...open.filter(({ sink }) => sink === name).map((table) => table.tableId),
      ...(await passing.snapshots.tablesOfKeys()),
    ]);
    if (owed.size === 0) return spelled;
    return (checkpoint) => spelled({ ...checkpoint, tables: withoutTables(checkpoint.tables, owed) });
  }

  async verify(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    await this.#texts();
  }

  async forget(): Promise<void> {
    // What it keeps is in the state.
  }

  async close(): Promise<void> {
    // It has nothing of its own.
  }
}

function indexOf({ blocks, block, row }: TableWrites, entry: number): number {
  return blocks[block[entry]!]!.index[row[entry]!]!;
}

function commitTimeOf({ blocks, block, row }: TableWrites, entry: number): bigint {
  const of = blocks[block[entry]!]!;
  return of.transactions.commitTimeUs[of.tx[row[entry]!]!]!;
}

function placeAfter(version: bigint, index: number): Position {
  return { epoch: epochOf(version), commit: commitOf(version), index: index + 1 };
}

/** The index of the transaction's first change that does not precede the position. */
function firstAfter({ epoch, commit, index }: Position, version: bigint): number {
  const own = rowVersion(epoch, commit);
  if (version === own) return index;
  return version < own ? Number.POSITIVE_INFINITY : 0;
}
