import { randomUUID } from "node:crypto";
import type { Checkpoint, Batch, TableWrites } from "../../../src/core/model/batch.ts";
import { checkpointTexts } from "../../../src/core/checkpoint/checkpoint-text.ts";
import type { Inspection } from "../../../src/core/contracts/comparing.ts";
import { atServer, MillraceError, reasonOf } from "../../../src/core/errors.ts";
import { serverAt } from "../../../src/core/system-errors.ts";
import type { TableName } from "../../../src/core/contracts/connector.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type {
  Outcome,
  Sink,
  SinkForm,
  BatchPrefetch,
  TargetComparison,
  TargetEvolution,
  TargetPresence,
  TargetRows,
} from "../../../src/core/contracts/sink.ts";
import type { PostgresAddress } from "../../../src/postgres/url.ts";
import { applyRows, applyWhole, prepareRows } from "./write/apply.ts";
import { RenderedCopies } from "./write/copies.ts";
import { heldBy, sinkError, stopped, targetsMeet, withoutRow } from "./errors.ts";
import { PostgresInspection } from "./inspect.ts";
import {
  advanceTo,
  CREATE_METADATA,
  endPredecessor,
  enterSession,
  FenceBroken,
  type Fence,
  fenceError,
  LOCK_DDL,
  FIND_METADATA,
  lockLease,
  readCheckpoint,
  removeCheckpoint,
  selectFence,
  selectCheckpoint,
  type StoredCheckpoint,
  takeLease,
} from "./checkpoint.ts";
import { type Fenced, RawTarget } from "./raw/raw-target.ts";
import { Session } from "./session.ts";
import { Presence } from "./tables/presence.ts";
import type { TableBatch } from "./write/small.ts";
import type { Merge, BatchCall } from "./write/merge.ts";
import type { TargetTable } from "./tables/target-table.ts";
import { targetName } from "./tables/names.ts";
import { type PostgresTargets, PostgresWarehouse, type Transaction } from "./tables/warehouse.ts";
import { expelSql, Targets, type TargetsOptions } from "../../warehouse/targets.ts";
import { quoteTable } from "../../../src/postgres/quote.ts";
import { Frames } from "./wire.ts";
import { DEFAULT_FORM, type TargetForm } from "../../warehouse/own-columns.ts";

export interface PostgresSinkOptions {
  readonly name: string;
  /** Names the row of progress: `<daemon>/<sink>`. */
  readonly checkpointName: string;
  readonly address: PostgresAddress;
  /** Puts all tables in this schema. */
  readonly schema: string | undefined;
  /** Default: a mirror with hard deletes. */
  readonly form?: TargetForm;
  /** See SinkContext. */
  readonly dropsColumns?: ((table: TableName) => boolean) | undefined;
  /** How long an answer may take before the server is asked over another connection. Default: 15 s. */
  readonly silenceMs?: number;
}

/** A transaction holds locks on each table, its indexes and its staging table; a server has room for 6,400 by default. */
const BATCH = { rowCountMax: 50_000, byteCountMax: 2 * 1024 * 1024, tableCountMax: 250 } as const;

/** The batch whose COMMIT may have been sent without an answer. */
interface InFlight {
  readonly batch: Batch;
  readonly batches: bigint;
}

/**
 * Mirrors tables in a Postgres database, or keeps their history; rows and checkpoint become durable in one transaction.
 */
export class PostgresSink
  implements Sink, TargetPresence, TargetRows, TargetEvolution, BatchPrefetch, TargetComparison
{
  readonly name: string;
  readonly kind = "postgres";
  readonly form: SinkForm;
  readonly delivery = "transactional";
  readonly onLost = "fail";
  readonly presence = this;
  readonly rows = this;
  readonly evolution = this;
  readonly prefetch = this;
  readonly comparison = this;
  readonly batchLimits = BATCH;
  readonly raw: RawTarget;
  readonly #options: PostgresSinkOptions;
  readonly #targetForm: TargetForm;
  readonly #warehouse: TargetsOptions;
  readonly #targets: PostgresTargets;
  /** One buffer for all sessions of this sink, so that batches allocate nothing. */
  readonly #frames = new Frames();
  /** The rows of the batch in flight. */
  #copies = new RenderedCopies();
  /** The rows of the next batch, if known. */
  #copiesAhead = new RenderedCopies();
  #prefetched: { readonly tables: readonly TableWrites[]; readonly merge: Merge } | null = null;
  readonly #presence: Presence;
  #session: Session | null = null;
  #closed = false;
  #lease = 0n;
  /** The target's batch count as far as this process knows; the fence compares it. */
  #batches = 0n;
  #inFlight: InFlight | null = null;
  /** Names the session: see `checkpoint.ts`. */
  #claim = "";
  /** A batch of a raw copy may have been counted without an answer. */
  #isCountInDoubt = false;
  /** The text of the complete tables, if the target certainly has it. */
  #storedTables: string | null = null;
  /** A batch that was found done after its connection broke: when it comes again, it is not written again. */
  #done: Batch | null = null;

  constructor(options: PostgresSinkOptions) {
    this.name = options.name;
    this.#options = options;
    this.#targetForm = options.form ?? DEFAULT_FORM;
    this.form = this.#targetForm.mode;
    const { schema, dropsColumns } = options;
    const owner = options.checkpointName;
    this.#warehouse = { owner, schema, form: this.#targetForm, dropsColumns };
    this.#targets = new Targets(owner);
    this.#presence = new Presence(owner);
    const fence = {
      now: () => this.#fence,
      counted: () => void this.#batches++,
      inDoubt: () => {
        this.#isCountInDoubt = true;
        this.#session?.close();
      },
    };
    this.raw = new RawTarget({
      targets: this.#targets,
      fence,
      open: (signal) => this.#openBeside(signal),
      fenced: (...work) => this.#fenced(...work),
    });
  }

  target(table: TableVersion): string {
    const { schema, table: name } = targetName(table, this.#options.schema);
    return quoteTable(schema, name);
  }

  async open(lease: number, signal: AbortSignal): Promise<Checkpoint | null> {
    const session = await this.#connect(signal);
    return this.#guarded("opening the target", async () => {
      const found = await session.query(FIND_METADATA, signal);
      if (found.rows.length === 0) await session.query(CREATE_METADATA, signal);
      const { checkpointName } = this.#options;
      await session.query(endPredecessor(checkpointName, BigInt(lease)), signal);
      const fence = { ...this.#fence, lease: BigInt(lease) };
      const taken = readCheckpoint(await session.query(takeLease(fence), signal));
      if (taken === null) {
        const holder = readCheckpoint(await session.query(selectCheckpoint(checkpointName), signal));
        throw fenceError(holder, fence);
      }
      this.#lease = taken.lease;
      this.#isCountInDoubt = false;
      this.#batches = taken.batches;
      this.#inFlight = null;
      this.#storedTables = null;
      this.#presence.reopened();
      return taken.checkpoint;
    });
  }

  async look(signal: AbortSignal): Promise<Checkpoint | null> {
    const { checkpointName } = this.#options;
    const session = await this.#openBeside(signal);
    try {
      return await this.#guarded("looking at the target's progress", async () => {
        const found = await session.query(FIND_METADATA, signal);
        if (found.rows.length === 0) return null;
        return readCheckpoint(await session.query(selectCheckpoint(checkpointName), signal))?.checkpoint ?? null;
      });
    } finally {
      session.close();
    }
  }

  async missing(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly TableVersion[]> {
    if (tables.length === 0) return [];
    const session = await this.#ready(signal);
    const convert = async (statements: string): Promise<void> => {
      await this.#fencedDdl(session, signal);
      await session.query(`${statements}; COMMIT`, signal);
    };
    const warehouse = this.#tables(session, signal, { convert });
    return this.#guarded("looking for tables", () => this.#targets.missing(warehouse, tables));
  }

  async foreign(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly TableVersion[]> {
    const session = await this.#ready(signal);
    return this.#guarded("looking for tables", () => this.#targets.foreign(this.#tables(session, signal), tables));
  }

  async prepare(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    for (const table of tables) {
      const other = this.#targets.tableOf(this.target(table)) ?? table.id;
      if (other !== table.id) throw targetsMeet(table.id, other, this.target(table));
    }
    const doing = tables.length === 1 ? `preparing ${tables[0]!.id}` : `preparing ${tables.length} tables`;
    const prepare = async (session: Session, some: readonly TableVersion[]): Promise<void> => {
      const finish = async (made: readonly TargetTable[]): Promise<void> => {
        await session.query("COMMIT", signal);
        await this.#presence.add(session, made, signal);
      };
      await this.#targets.prepare(this.#tables(session, signal, { finish }), some);
    };
    let countMax: number = BATCH.tableCountMax;
    for (let i = 0; i < tables.length;) {
      const some = tables.slice(i, i + countMax);
      try {
        await this.#fenced(doing, (session) => prepare(session, some), signal);
        i += some.length;
      } catch (error) {
        if (reasonOf(error) !== "tables" || some.length === 1) throw error;
        countMax = Math.ceil(some.length / 4);
      }
    }
  }

  async carries(from: TableVersion, to: TableVersion, signal: AbortSignal): Promise<boolean> {
    const session = await this.#ready(signal);
    const warehouse = this.#tables(session, signal);
    return await this.#guarded(`looking at ${to.id}`, () => this.#targets.carries(warehouse, from, to));
  }

  async apply(batch: Batch, outcome: Outcome, signal: AbortSignal): Promise<void> {
    if (signal.aborted) throw stopped("the batch");
    const session = await this.#ready(signal);
    if (this.#done === batch) return;
    this.#done = null;
    const texts = checkpointTexts(batch.checkpoint);
    const advance = advanceTo(this.#fence, batch.checkpoint.position, texts, this.#storedTables);
    this.#storedTables = null;
    this.#inFlight = { batch, batches: this.#batches };
    const tableCount = batch.kind === "rows" ? batch.tables.length : 1;
    const what = tableCount === 1 ? "a batch" : `a batch of ${tableCount} tables`;
    await this.#guarded(`applying ${what} to ${this.name}`, () =>
      this.#write(batch, { session, advance, outcome, signal }),
    );
    this.#batches++;
    this.#storedTables = texts.tables;
    this.#inFlight = null;
    this.#presence.applied(batch, (table) => this.#targets.find(table));
  }

  prefetchRows(tables: readonly TableWrites[]): void {
    this.#prefetched = null;
    // The form of a shape that comes with this batch is still unknown.
    if (!tables.every(({ table }) => this.#targets.find(table) !== undefined)) return;
    const merge = prepareRows(this.#tableBatches(tables), this.#copiesAhead);
    if (merge !== null) this.#prefetched = { tables, merge };
  }

  async expel(tables: readonly TableVersion[], version: bigint, signal: AbortSignal): Promise<void> {
    const remove = async (session: Session): Promise<void> => {
      const there = await this.#tables(session, signal).versioned(tables);
      for (const name of there.values()) await session.query(expelSql(name, version), signal);
      await session.query("COMMIT", signal);
    };
    await this.#fenced("removing rows that Millrace did not write", remove, signal);
  }

  async highestVersion(tables: readonly TableVersion[] | null, signal: AbortSignal): Promise<bigint> {
    const session = await this.#ready(signal);
    const warehouse = this.#tables(session, signal);
    return await this.#guarded("looking for old rows", () => this.#targets.highestVersion(warehouse, tables));
  }

  async forget(signal: AbortSignal): Promise<void> {
    const session = await this.#ready(signal);
    await this.#guarded("removing the sink's progress", async () => {
      await session.query(removeCheckpoint(this.#fence), signal);
    });
  }

  async verify(signal: AbortSignal): Promise<void> {
    const session = await this.#ready(signal);
    await this.#guarded("looking at the target", async () => {
      this.#compare(readCheckpoint(await session.query(selectFence(this.#options.checkpointName), signal)));
      await this.#presence.check(session, signal);
    });
  }

  async inspect(): Promise<Inspection> {
    return new PostgresInspection({
      open: (signal) => this.#openBeside(signal),
      nameOf: (table) => targetName(table, this.#options.schema),
      form: this.#targetForm,
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#session?.close();
    this.#session = null;
  }

  async #write(batch: Batch, call: BatchCall): Promise<void> {
    if (batch.kind !== "rows") return await applyWhole(batch, this.#targets, call);
    const staged = this.#prefetched?.tables === batch.tables ? this.#prefetched : null;
    if (staged !== null) {
      this.#prefetched = null;
      [this.#copies, this.#copiesAhead] = [this.#copiesAhead, this.#copies];
    }
    const rows = { tables: this.#tableBatches(batch.tables), copies: this.#copies, merge: staged?.merge ?? null };
    return await applyRows(rows, call);
  }

  #tableBatches(tables: readonly TableWrites[]): readonly TableBatch[] {
    const filled = tables.filter(({ count }) => count > 0);
    return filled.map((writes) => ({ table: this.#targets.get(writes.table), writes }));
  }

  #tables(session: Session, signal: AbortSignal, around: Partial<Transaction> = {}): PostgresWarehouse {
    const transaction = {
      convert: async (sql: string): Promise<void> => void (await session.query(sql, signal)),
      finish: async (): Promise<void> => {},
      ...around,
    };
    return new PostgresWarehouse(session, this.#warehouse, transaction, signal);
  }

  async #connect(signal: AbortSignal): Promise<Session> {
    if (this.#closed) throw stopped(`sink ${this.name}`);
    this.#session?.close();
    const session = await Session.open(this.#options.address, this.#frames, signal, this.#options.silenceMs);
    // `close` may have been called meanwhile; TypeScript has narrowed the field above.
    if (this.#isClosed()) {
      session.close();
      throw stopped(`sink ${this.name}`);
    }
    this.#session = session;
    this.#claim = randomUUID();
    return session;
  }

  /** A session beside the one that applies batches. */
  async #openBeside(signal: AbortSignal): Promise<Session> {
    const { address, silenceMs } = this.#options;
    return await Session.open(address, new Frames(), signal, silenceMs);
  }

  #isClosed(): boolean {
    return this.#closed;
  }

  /** The session, or a new one after checking that the target is as this process left it. */
  async #ready(signal: AbortSignal): Promise<Session> {
    if (this.#session !== null && !this.#session.broken) return this.#session;
    const session = await this.#connect(signal);
    await this.#guarded("looking at the target's progress", async () => {
      const { checkpointName } = this.#options;
      await session.query(endPredecessor(checkpointName, this.#lease), signal);
      const entered = readCheckpoint(await session.query(enterSession(this.#fence), signal));
      const found = entered ?? readCheckpoint(await session.query(selectCheckpoint(checkpointName), signal));
      const inFlight = this.#inFlight;
      if (inFlight !== null && found?.lease === this.#lease && found.batches === inFlight.batches + 1n) {
        this.#batches = found.batches;
        this.#done = inFlight.batch;
        this.#inFlight = null;
        return;
      }
      if (this.#isCountInDoubt && found?.lease === this.#lease && found.batches === this.#batches + 1n) {
        this.#batches = found.batches;
      }
      this.#isCountInDoubt = false;
      this.#compare(found);
    });
    return session;
  }

  async #fenced(...[doing, work, signal]: Parameters<Fenced>): Promise<void> {
    const session = await this.#ready(signal);
    await this.#guarded(doing, async () => {
      await this.#fencedDdl(session, signal);
      await work(session);
    });
  }

  /** Begins a transaction that changes tables, after the fence. */
  async #fencedDdl(session: Session, signal: AbortSignal): Promise<void> {
    const sql = `BEGIN; ${LOCK_DDL}; ${lockLease(this.#options.checkpointName)}`;
    this.#compare(readCheckpoint(await session.query(sql, signal)));
  }

  #compare(found: StoredCheckpoint | null): void {
    const { lease, batches, claim } = this.#fence;
    if (found?.lease === lease && found.batches === batches && found.claim === claim) return;
    throw fenceError(found, this.#fence);
  }

  get #fence(): Fence {
    return { name: this.#options.checkpointName, lease: this.#lease, batches: this.#batches, claim: this.#claim };
  }

  /** Turns a failure into a numbered error. Rolls a failed transaction back; a session that can't do that is closed. */
  async #guarded<T>(doing: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      const session = this.#session;
      const holders = session?.holders ?? null;
      const fenced = session !== null && !session.broken ? await this.#rolledBack(session, error) : null;
      if (this.#closed) throw stopped(doing);
      const { host, port } = this.#options.address;
      throw fenced ?? withoutRow(heldBy(atServer(sinkError(error, doing), serverAt(host, port)), holders));
    }
  }

  /** The fence's error, if the fence failed. */
  async #rolledBack(session: Session, error: unknown): Promise<MillraceError | null> {
    const signal = AbortSignal.timeout(ROLLBACK_TIMEOUT_MS);
    try {
      await session.query("ROLLBACK", signal);
      if (!(error instanceof FenceBroken)) return null;
      this.#compare(readCheckpoint(await session.query(selectCheckpoint(this.#options.checkpointName), signal)));
      return null;
    } catch (second) {
      if (second instanceof MillraceError) return second;
      session.close();
      return null;
    }
  }
}

const ROLLBACK_TIMEOUT_MS = 10_000;
