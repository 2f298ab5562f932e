/** The sinks through which a process writes to the targets. */
import { DELETE, PATCH, type Batch, type TableWrites, tablesOf, type Truncate } from "../../src/core/model/batch.ts";
import type { Checkpoint } from "../../src/core/checkpoint.ts";
import type { Inspection } from "../../src/core/contracts/comparing.ts";
import { OP_READ } from "../../src/core/model/block.ts";
import { MillraceError } from "../../src/core/errors.ts";
import { keyText } from "../../src/core/model/row-id.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type {
  AllTargets,
  Delivery,
  OnLost,
  Outcome,
  Sink,
  TargetComparison,
  TargetPresence,
  TargetRows,
} from "../../src/core/contracts/sink.ts";
import { epochOf } from "../../src/core/model/position.ts";
import { WriteRuns } from "../../src/core/targets/write-runs.ts";
import { UNCHANGED } from "../support/model/blocks.ts";
import { cellsOf } from "../support/model/log-model.ts";
import type { Row } from "./database.ts";
import { TargetInspection } from "./inspection.ts";
import { Connection } from "./network.ts";
import { never, type SimulatedProcess } from "./scheduler.ts";
import type { Target, TargetTable } from "./targets.ts";

interface Put {
  readonly key: string;
  readonly row: Row | null;
  readonly version: bigint;
}

const TARGET = { side: "sink", kind: "model" } as const;

function fenced(name: string): MillraceError {
  return new MillraceError({
    connector: TARGET,
    code: "MR3997",
    kind: "fatal",
    message: `${name}: another process has written`,
  });
}

function replaced(name: string): MillraceError {
  return new MillraceError({
    connector: TARGET,
    code: "MR3995",
    kind: "reopen",
    message: `${name}: another progress than was written`,
  });
}

function tooMany(name: string): MillraceError {
  const message = `${name}: a step has too many tables`;
  return new MillraceError({ connector: TARGET, code: "MR3994", kind: "retryable", reason: "tables", message });
}

function refusedTogether(name: string): MillraceError {
  const message = `${name}: the batch is refused`;
  return new MillraceError({ connector: TARGET, code: "MR3993", kind: "fatal", message });
}

function tablesLost(name: string, lostTables: readonly string[]): MillraceError {
  const message = `${name}: tables are not there, or empty`;
  return new MillraceError({ connector: TARGET, code: "MR3996", kind: "reopen", message, lostTables });
}

/** Each call to a server takes time. */
const TRIES_AT_ONCE_MAX = 100;
/** In a stream whose reader does not have the value that a change has left as it was. */
const LOST = "lost";

/** The rows of a stream's target are what its reader makes of the changes. */
export class SimulatedSink implements Sink, TargetPresence, TargetRows, TargetComparison {
  readonly name: string;
  readonly kind = "simulated";
  readonly form: "mirror" | "stream";
  readonly delivery: Delivery;
  readonly presence = this;
  readonly rows?: TargetRows;
  readonly comparison?: TargetComparison;
  readonly onLost: OnLost;
  readonly #target: Target;
  readonly #process: SimulatedProcess;
  readonly #connection: Connection;
  /** Of the requests under this lease. */
  #runs = new WriteRuns(() => "");
  #lease = 0;
  #triedAtMs = 0;
  #triesAtOnce = 0;
  /** What this process wrote last, or found. */
  #known: Checkpoint | null = null;
  /** Ids of tables that were prepared since the opening. */
  readonly #watched = new Set<string>();
  /** Ids of emptied tables that this process has told of: it does so once. */
  readonly #told = new Set<string>();

  constructor(process: SimulatedProcess, target: Target) {
    this.name = target.traits.name;
    this.onLost = target.traits.onLost;
    this.delivery = target.traits.isTransactional ? "transactional" : "idempotent";
    this.form = target.traits.isStream ? "stream" : "mirror";
    if (this.form === "mirror") this.rows = this.comparison = this;
    this.#target = target;
    this.#process = process;
    this.#connection = new Connection(process, target.weather, this.name);
  }

  target(table: Pick<TableVersion, "schema" | "table">): string {
    return `${table.schema}.${table.table}`;
  }

  async open(lease: number, signal: AbortSignal): Promise<Checkpoint | null> {
    return await this.#connection.call(
      "open",
      () => {
        const target = this.#target;
        if (lease < target.lease) throw fenced(this.name);
        if (lease !== this.#lease) this.#runs = new WriteRuns(() => `${lease}/${++target.runCount}`);
        target.lease = this.#lease = lease;
        this.#watched.clear();
        return (this.#known = target.checkpoint);
      },
      signal,
    );
  }

  async look(signal: AbortSignal): Promise<Checkpoint | null> {
    return await this.#connection.call("look", () => this.#target.checkpoint, signal);
  }

  async missing(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly TableVersion[]> {
    return await this.#connection.call(
      "missing",
      () => tables.filter(({ id }) => !this.#target.tables.has(id)),
      signal,
    );
  }

  async highestVersion(tables: readonly TableVersion[] | AllTargets, signal: AbortSignal): Promise<bigint> {
    return await this.#connection.call(
      "highest version",
      () => {
        let highest = 0n;
        for (const [id, { rows, gone }] of this.#target.tables) {
          if (typeof tables !== "string" && !tables.some((table) => table.id === id)) continue;
          for (const { version } of rows.values()) if (version > highest) highest = version;
          for (const version of gone.values()) if (version > highest) highest = version;
        }
        return highest;
      },
      signal,
    );
  }

  async expel(tables: readonly TableVersion[], above: bigint, signal: AbortSignal): Promise<void> {
    await this.#connection.call(
      "expel",
      () => {
        for (const { id } of tables) {
          const held = this.#target.tables.get(id);
          for (const [key, { version }] of held?.rows ?? []) if (version > above) this.#remove(held!, key, version);
          for (const [key, version] of held?.gone ?? []) if (version > above) held!.gone.delete(key);
        }
      },
      signal,
    );
  }

  async prepare(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    for (const table of tables) await this.#connection.call("prepare", () => this.#prepare(table), signal);
  }

  #prepare(table: TableVersion): TargetTable {
    const { tables } = this.#target;
    const held = tables.get(table.id);
    this.#watched.add(table.id);
    if (held?.shape.fingerprint === table.fingerprint) return held;
    const made: TargetTable = { shape: table, rows: new Map(), gone: held?.gone ?? new Map(), run: held?.run ?? "" };
    for (const [key, { row, version }] of held?.rows ?? []) {
      made.rows.set(key, { row: reshaped(row, held!.shape, table), version });
    }
    tables.set(table.id, made);
    this.#enter([table]);
    return made;
  }

  async apply(batch: Batch, outcome: Outcome, signal: AbortSignal): Promise<void> {
    outcome.waiting?.();
    if (batch.kind === "rows" && batch.tables.length > this.#target.traits.tablesMax) throw tooMany(this.name);
    if (!this.#isTriedAt(this.#process.clock.elapsed())) return await never();
    if (this.#target.traits.isTransactional) await this.#applyAtOnce(batch, outcome, signal);
    else await this.#applyByRow(batch, outcome, signal);
  }

  /** False: for ever. */
  #isTriedAt(ms: number): boolean {
    this.#triesAtOnce = ms === this.#triedAtMs ? this.#triesAtOnce + 1 : 1;
    this.#triedAtMs = ms;
    if (this.#triesAtOnce <= TRIES_AT_ONCE_MAX) return true;
    this.#target.watch.triedForEver(this.#target);
    return false;
  }

  async #applyAtOnce(batch: Batch, outcome: Outcome, signal: AbortSignal): Promise<void> {
    const puts = this.form === "stream" ? [] : await this.#puts(batch, outcome, signal);
    const refused = this.form === "stream" ? await this.#refused(batch, outcome) : new Set<string>();
    await this.#connection.call(
      `apply ${batch.kind}`,
      () => {
        this.#expectOurs();
        if (!this.#target.takesTogether && tablesOf(batch).length > 1) throw refusedTogether(this.name);
        this.#tell(batch);
        if (batch.kind === "rows") this.#empty(batch.truncates ?? []);
        for (const { table, put } of puts) this.#write(this.#held(table), put);
        if (this.form === "stream") this.#pass(batch, refused);
        this.#sweep(batch);
        this.#store(batch.checkpoint);
      },
      signal,
    );
    this.#known = batch.checkpoint;
  }

  /** Entries of a stream's batch whose rows the target refuses: table and number. */
  async #refused(batch: Batch, outcome: Outcome): Promise<ReadonlySet<string>> {
    const refused = new Set<string>();
    for (const writes of batch.kind === "rows" ? batch.tables : []) {
      for (let i = 0; i < writes.count; i++) {
        // It has no row after the change.
        if (writes.action[i] === DELETE) continue;
        const key = this.#keyOf(writes, i);
        if (!this.#target.refuses([key])) continue;
        this.#target.watch.forgotten(this.#target, writes.table.id, key);
        refused.add(`${writes.table.id}/${i}`);
        await outcome.poison([{ writes, entry: i, error: refusal() }]);
      }
    }
    return refused;
  }

  /** What a reader makes of each change, as it comes: the newest counts, and has what it leaves as it was from the one before. */
  #pass(batch: Batch, refused: ReadonlySet<string>): void {
    for (const writes of batch.kind === "rows" ? batch.tables : []) {
      const held = this.#held(writes.table);
      for (let i = 0; i < writes.count; i++) {
        if (refused.has(`${writes.table.id}/${i}`)) continue;
        const { key, cells, version, baseKey } = entryOf(writes, i);
        if (cells === null) {
          this.#remove(held, key, version);
          continue;
        }
        const base = held.rows.get(baseKey)?.row;
        const row = whole(cells.map((cell, c) => (cell === UNCHANGED ? (base === undefined ? LOST : base[c]!) : cell)));
        held.rows.set(key, { row, version });
        this.#target.watch.shown(this.#target, held.shape.id, key, row, version);
      }
    }
  }

  /** Of a target whose effects are exactly once. */
  #tell(batch: Batch): void {
    if (batch.kind !== "rows") return;
    for (const { blocks, block, row, count } of batch.tables) {
      for (let i = 0; i < count; i++) {
        const { transactions, tx, op, index } = blocks[block[i]!]!;
        const ordinal = tx[row[i]!]!;
        const commit = transactions.commit[ordinal]!;
        if (commit === 0n || op[row[i]!] === OP_READ) continue;
        const epoch = epochOf(transactions.version[ordinal]!);
        const change = { epoch, commit, index: index[row[i]!]! };
        this.#target.watch.applied(this.#target, change, this.#target.checkpoint);
      }
    }
  }

  async #applyByRow(batch: Batch, outcome: Outcome, signal: AbortSignal): Promise<void> {
    const puts = await this.#puts(batch, outcome, signal);
    this.#expectOurs();
    this.#enter(tablesOf(batch));
    this.#giveUp(
      `rows ${batch.kind}`,
      () => {
        for (const { table, put } of puts) this.#write(this.#held(table), put);
        this.#sweep(batch);
      },
      tablesOf(batch),
    );
    for (const { table, put } of puts) {
      if (!this.#process.passes()) return await never();
      this.#write(this.#held(table), put);
    }
    await this.#connection.call(
      `rows ${batch.kind}`,
      () => {
        this.#expectOurs();
        this.#sweep(batch);
      },
      signal,
    );
    await this.#connection.call(
      "progress",
      () => {
        this.#expectOurs();
        this.#store(batch.checkpoint);
      },
      signal,
    );
    this.#known = batch.checkpoint;
  }

  #enter(tables: readonly TableVersion[]): void {
    // What is written under another name is refused: somebody may have put the table back as it was.
    for (const { id } of tables) if (this.#target.tables.get(id)?.run !== this.#runs.id) this.#runs.left(id);
    for (const { id } of this.#runs.unentered(tables, (table) => table.id)) {
      const held = this.#target.tables.get(id);
      if (held === undefined) continue;
      held.run = this.#runs.id;
      this.#runs.entered(id);
    }
  }

  /** The target refuses what is late if another run has entered one of the tables. */
  #giveUp(what: string, effect: () => void, tables: readonly TableVersion[]): void {
    const { id } = this.#runs;
    try {
      const late = (): void => {
        if (tables.every((table) => this.#target.tables.get(table.id)?.run === id)) effect();
      };
      this.#connection.giveUp(what, late, this.#target.late);
    } catch (error) {
      this.#runs.unanswered();
      throw error;
    }
  }

  /** The fence. */
  #expectOurs(): void {
    const { lease, checkpoint } = this.#target;
    if (lease > this.#lease) throw fenced(this.name);
    if (lease !== this.#lease || checkpoint !== this.#known) throw replaced(this.name);
  }

  /** What the batch writes, row by row; what can't be written is reported first. */
  async #puts(
    batch: Batch,
    outcome: Outcome,
    signal: AbortSignal,
  ): Promise<{ readonly table: TableVersion; readonly put: Put }[]> {
    if (batch.kind !== "rows") return [];
    const all: { readonly table: TableVersion; readonly put: Put }[] = [];
    const emptied = new Map((batch.truncates ?? []).map(({ table, version }) => [table.id, version]));
    for (const writes of batch.tables) {
      const missing: number[] = [];
      for (let i = 0; i < writes.count; i++) {
        const put = this.#put(writes, i, emptied.get(writes.table.id) ?? -1n);
        if (put === null) missing.push(i);
        else if (put.row !== null && this.#target.refuses(put.row)) {
          this.#target.watch.forgotten(this.#target, writes.table.id, put.key);
          await outcome.poison([{ writes, entry: i, error: refusal() }]);
        } else all.push({ table: writes.table, put });
      }
      if (missing.length === 0) continue;
      await outcome.incomplete(writes, missing);
      // From here on Millrace owes the row, evicted or not.
      for (const i of missing) this.#target.evicted.delete(`${writes.table.id}/${this.#keyOf(writes, i)}`);
    }
    signal.throwIfAborted();
    return all;
  }

  /** Null: the row that its unchanged cells come from is not there. Rows up to version `emptied` are gone by then. */
  #put(writes: TableWrites, i: number, emptied: bigint): Put | null {
    const { key, cells, version, baseKey } = entryOf(writes, i);
    if (cells === null) return { key, row: null, version };
    if (writes.action[i] !== PATCH) return { key, row: whole(cells), version };
    const base = this.#held(writes.table).rows.get(baseKey);
    if (
      base === undefined ||
      base.version <= emptied ||
      (writes.moved[i] === 1 ? base.version >= version : base.version > version)
    )
      return null;
    return { key, row: whole(cells.map((cell, c) => (cell === UNCHANGED ? base.row[c]! : cell))), version };
  }

  #keyOf({ table, blocks, block, row }: TableWrites, i: number): string {
    const { bytes, after } = blocks[block[i]!]!;
    return keyText(table, bytes, after[row[i]!]!).join(":");
  }

  #held(table: TableVersion): TargetTable {
    const held = this.#target.tables.get(table.id);
    if (held === undefined || held.shape.fingerprint !== table.fingerprint) throw tablesLost(this.name, [table.id]);
    return held;
  }

  #write(held: TargetTable, { key, row, version }: Put): void {
    const before = held.rows.get(key)?.version ?? held.gone.get(key) ?? 0n;
    if (before > version) return;
    if (row === null) {
      this.#remove(held, key, version);
      if (!this.#target.traits.isTransactional) held.gone.set(key, version);
    } else {
      held.rows.set(key, { row, version });
      held.gone.delete(key);
      this.#target.evicted.delete(`${held.shape.id}/${key}`);
      this.#target.watch.shown(this.#target, held.shape.id, key, row, version);
    }
  }

  #remove(held: TargetTable, key: string, version: bigint): void {
    if (held.rows.delete(key)) this.#target.watch.shown(this.#target, held.shape.id, key, null, version);
  }

  #sweep(batch: Batch): void {
    if (batch.kind !== "truncate" && batch.kind !== "sweep") return;
    this.#empty(
      batch.kind === "truncate" ? [batch] : batch.sweeps.map(({ table, below }) => ({ table, version: below - 1n })),
    );
  }

  #empty(tables: readonly Truncate[]): void {
    for (const { table, version: highest } of tables) {
      const held = this.#target.tables.get(table.id);
      for (const [key, { version }] of held?.rows ?? []) if (version <= highest) this.#remove(held!, key, highest);
    }
  }

  #store(checkpoint: Checkpoint): void {
    const { emptied } = this.#target;
    for (const id of emptied) if (this.#told.has(id) && checkpoint.tables[id] === undefined) emptied.delete(id);
    for (const id of this.#told) if (!emptied.has(id)) this.#told.delete(id);
    this.#target.checkpoint = checkpoint;
    this.#target.watch.progressed(this.#target, checkpoint);
  }

  async verify(signal: AbortSignal): Promise<void> {
    const lost = await this.#connection.call(
      "verify",
      () => {
        const { checkpoint, tables, emptied } = this.#target;
        if (checkpoint !== this.#known) throw replaced(this.name);
        const gone = [...this.#watched].filter((id) => !tables.has(id));
        return [...gone, ...[...emptied].filter((id) => !this.#told.has(id))];
      },
      signal,
    );
    if (lost.length === 0) return;
    for (const id of lost) this.#told.add(id);
    throw tablesLost(this.name, lost);
  }

  async inspect(): Promise<Inspection> {
    return new TargetInspection(this.#target, this.#connection);
  }

  async forget(): Promise<void> {
    this.#target.forget();
  }

  async close(): Promise<void> {}
}

function refusal(): MillraceError {
  return new MillraceError({ connector: TARGET, code: "MR3998", kind: "poison", message: "the row is refused" });
}

interface Entry {
  readonly key: string;
  /** Null: the row is deleted. */
  readonly cells: readonly unknown[] | null;
  readonly version: bigint;
  /** The key of the row from which unchanged cells are taken. */
  readonly baseKey: string;
}

function entryOf(writes: TableWrites, i: number): Entry {
  const { table } = writes;
  const block = writes.blocks[writes.block[i]!]!;
  const row = writes.row[i]!;
  const version = block.transactions.version[block.tx[row]!]!;
  const keyAt = (offset: number): string => keyText(table, block.bytes, offset).join(":");
  const old = block.before[row]!;
  if (writes.action[i] === DELETE) return { key: keyAt(old), cells: null, version, baseKey: "" };
  const offset = block.after[row]!;
  const key = keyAt(offset);
  return {
    key,
    cells: cellsOf(table, block.bytes, offset),
    version,
    baseKey: writes.moved[i] === 1 ? keyAt(old) : key,
  };
}

/** By the identities of the columns: what is added is null. */
function reshaped(row: Row, from: TableVersion, to: TableVersion): Row {
  return to.columns.map(({ identity }) => {
    const at = from.columns.findIndex((column) => column.identity === identity);
    return at < 0 ? null : row[at]!;
  });
}

function whole(cells: readonly unknown[]): Row {
  return cells.map((cell) => {
    if (cell === null || typeof cell === "string") return cell;
    throw new Error("a cell that the log did not carry would be written");
  });
}
