import { type Batch, tablesOf, type TableWrites } from "../../../src/core/model/batch.ts";
import type { Checkpoint } from "../../../src/core/checkpoint.ts";
import type { Inspection } from "../../../src/core/contracts/comparing.ts";
import { findMillraceError, joined, type MillraceError, reasonOf } from "../../../src/core/errors.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type {
  AllTargets,
  ForeignTarget,
  Outcome,
  Sink,
  SinkForm,
  BatchPrefetch,
  TargetComparison,
  TargetEvolution,
  TargetPresence,
  TargetRows,
} from "../../../src/core/contracts/sink.ts";
import { applyRows, applyWhole, prepareRows, wholeStatements } from "./write/apply.ts";
import { RenderedCopies } from "./write/copies.ts";
import { isDisplacement, stopped } from "./errors.ts";
import { PostgresInspection } from "./inspect.ts";
import { removeCheckpoint, SCOPES } from "./wire/checkpoint.ts";
import { RawTarget } from "./write/raw-target.ts";
import { FencedSession, type FencedSessionOptions } from "./wire/fenced-session.ts";
import { type Session, STAGES_MAX } from "./wire/session.ts";
import { LastSeen } from "./tables/last-seen.ts";
import { Presence } from "./tables/presence.ts";
import type { TableBatch } from "./write/small.ts";
import type { Merge, BatchCall } from "./write/merge.ts";
import { inScope, targetName } from "./tables/names.ts";
import { commentSql, type PostgresTargets, PostgresWarehouse, type WarehouseParts } from "./tables/warehouse.ts";
import { expelSql, Targets, type WarehouseSinkOptions } from "../../warehouse/targets.ts";
import { quoteTable } from "../../../src/postgres/quote.ts";
import { DEFAULT_FORM, type TargetForm } from "../../warehouse/own-columns.ts";

/** The owner is that of the checkpoint. */
export type PostgresSinkOptions = FencedSessionOptions & Omit<WarehouseSinkOptions, "owner">;

const NONE: ReadonlySet<string> = new Set();
/** Of 2,000 new tables, 250 in a transaction take the server twice the processor time of 16. */
const PREPARED_AT_ONCE = 16;
/** A transaction holds locks on all of its tables; `#inSteps` takes fewer if the target has no room for so many. */
const EXPELLED_AT_ONCE = 100;
/** A transaction holds locks on each table, its indexes and its staging table; a server has room for 6,400 by default. */
const BATCH = {
  rowCountMax: 50_000,
  byteCountMax: 2 * 1024 * 1024,
  tableCountMax: STAGES_MAX,
  hasTruncates: true,
} as const;

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
  readonly scopedBy?: "rows";
  readonly raw: RawTarget;
  readonly adoptable?: TargetPresence["adoptable"] & {};
  readonly #options: PostgresSinkOptions;
  readonly #targetForm: TargetForm;
  readonly #warehouse: WarehouseParts;
  readonly #targets: PostgresTargets;
  readonly #session: FencedSession;
  /** The rows of the batch in flight. */
  #copies = new RenderedCopies();
  /** The rows of the next batch, if known. */
  #copiesAhead = new RenderedCopies();
  #prefetched: { readonly tables: readonly TableWrites[]; readonly merge: Merge } | null = null;
  readonly #lastSeen: LastSeen;
  readonly #presence: Presence;

  constructor(options: PostgresSinkOptions) {
    this.name = options.name;
    this.#options = options;
    this.#targetForm = options.form ?? DEFAULT_FORM;
    this.form = this.#targetForm.mode;
    if (this.form === "mirror") this.scopedBy = "rows";
    const { schema, dropsColumns, adopts } = options;
    const owner = options.checkpointName;
    this.#targets = new Targets(owner);
    this.#session = new FencedSession(options);
    this.#lastSeen = new LastSeen(this.#session);
    this.#presence = new Presence(owner, this.#lastSeen);
    this.#warehouse = {
      owner,
      schema,
      form: this.#targetForm,
      dropsColumns,
      adopts,
      sink: this.#session,
      presence: this.#presence,
    };
    this.raw = new RawTarget(this.#targets, this.#session);
    if (adopts !== true) return;
    this.adoptable = async (tables, signal) => {
      const look = (session: Session) => this.#targets.adoptable(this.#tables(session, signal), tables);
      return await this.#session.run("looking for tables", look, signal);
    };
  }

  target(table: TableVersion): string {
    const { schema, table: name } = targetName(table, this.#options.schema);
    return quoteTable(schema, name);
  }

  async open(lease: number, signal: AbortSignal): Promise<Checkpoint | null> {
    const { checkpoint, isOurs } = await this.#session.open(BigInt(lease), signal);
    const open = (session: Session) => this.#presence.open(session, { checkpoint, isOurs }, signal);
    await this.#session.run("opening the target", open, signal);
    return checkpoint;
  }

  look(signal: AbortSignal): Promise<Checkpoint | null> {
    return this.#session.look(signal);
  }

  async missing(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly TableVersion[]> {
    if (tables.length === 0) return [];
    const look = async (session: Session): Promise<readonly TableVersion[]> => {
      const missing = new Set(await this.#targets.missing(this.#tables(session, signal), tables));
      const names = tables.map((table) => this.target(table));
      // A history may have been put back from a copy: that is the operator's word.
      const lost = this.form === "history" ? NONE : await this.#presence.lost(session, names, signal);
      return tables.filter((table, i) => missing.has(table) || lost.has(names[i]!));
    };
    return await this.#session.run("looking for tables", look, signal);
  }

  async foreign(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly ForeignTarget[]> {
    const look = (session: Session) => this.#targets.foreign(this.#tables(session, signal), tables);
    const foreign = await this.#session.run("looking for tables", look, signal);
    this.#presence.forget(foreign.map(({ table }) => this.target(table)));
    return foreign;
  }

  async keepOnly(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    const look = (session: Session) => this.#targets.keepOnly(this.#tables(session, signal), tables);
    await this.#session.run("letting go of tables", look, signal);
  }

  async prepare(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    const doing = tables.length === 1 ? `preparing ${tables[0]!.id}` : `preparing ${tables.length} tables`;
    const names = tables.map((table) => this.target(table));
    // Invariant: what was lost is told before the target counts as it is then.
    await this.#session.run(doing, (session) => this.#presence.check(session, signal, names), signal);
    const prepare = async (session: Session, some: readonly TableVersion[]): Promise<void> => {
      await this.#targets.prepare(this.#tables(session, signal, true), some);
    };
    await this.#inSteps(doing, tables, PREPARED_AT_ONCE, prepare, signal);
  }

  /** Some tables in each transaction: fewer where the target has no room for the locks of as many. */
  async #inSteps(
    doing: string,
    tables: readonly TableVersion[],
    atOnce: number,
    work: (session: Session, some: readonly TableVersion[]) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    let countMax = atOnce;
    const refused: MillraceError[] = [];
    for (let i = 0; i < tables.length;) {
      const some = tables.slice(i, i + countMax);
      const targets = () => some.map((table) => this.target(table));
      try {
        await this.#session.fenced(doing, (session) => work(session, some), signal, targets);
        i += some.length;
      } catch (error) {
        const known = findMillraceError(error);
        if (known?.kind === "fatal" && known.table !== undefined) {
          refused.push(known, ...known.further);
          i += some.length;
          continue;
        }
        if (reasonOf(error) !== "tables" || some.length === 1) throw error;
        countMax = Math.ceil(some.length / 4);
      }
    }
    const [first, ...further] = refused;
    if (first !== undefined) throw joined([first, ...further]);
  }

  async carries(from: TableVersion, to: TableVersion, signal: AbortSignal): Promise<boolean> {
    const look = (session: Session) => this.#targets.carries(this.#tables(session, signal), from, to);
    return await this.#session.run(`looking at ${to.id}`, look, signal);
  }

  async apply(batch: Batch, outcome: Outcome, signal: AbortSignal): Promise<void> {
    if (signal.aborted) throw stopped("the batch");
    try {
      await this.#apply(batch, outcome, signal);
    } catch (error) {
      // Which table was taken over says more than that one was.
      if (isDisplacement(error)) await this.#owned(signal);
      throw error;
    }
  }

  async #apply(batch: Batch, outcome: Outcome, signal: AbortSignal): Promise<void> {
    const session = await (batch.kind === "checkpoint" ? this.#session.ready(signal) : this.#owned(signal));
    if (batch.kind === "sweep" && this.#targets.showHidden(batch.sweeps)) {
      const hide = (opened: Session) => this.#targets.hide(this.#tables(opened, signal), batch.sweeps);
      await this.#session.run("hiding what deleted rows show", hide, signal);
    }
    const advance = this.#session.begin(batch, wholeStatements(batch, this.#targets));
    if (advance !== null) {
      const tableCount = batch.kind === "rows" ? batch.tables.length : 1;
      const what = tableCount === 1 ? "a batch" : `a batch of ${tableCount} tables`;
      await this.#session.guarded(
        `applying ${what} to ${this.name}`,
        () => this.#write(batch, { session, advance, outcome, signal }),
        () => tablesOf(batch).map((table) => this.target(table)),
      );
      this.#session.applied();
    }
    this.#presence.applied(batch, (table) => this.#targets.find(table));
  }

  #owned(signal: AbortSignal): Promise<Session> {
    const look = async (session: Session): Promise<void> => {
      await this.#presence.check(session, signal);
      await this.#targets.checkScopes(this.#tables(session, signal));
    };
    return this.#session.owned(look, signal);
  }

  prefetchRows(tables: readonly TableWrites[]): void {
    this.#prefetched = null;
    // The form of a shape that comes with this batch is still unknown.
    if (!tables.every(({ table }) => this.#targets.find(table) !== undefined)) return;
    const merge = prepareRows(this.#tableBatches(tables), this.#copiesAhead);
    if (merge !== null) this.#prefetched = { tables, merge };
  }

  async expel(tables: readonly TableVersion[], version: bigint, signal: AbortSignal): Promise<void> {
    const remove = async (session: Session, some: readonly TableVersion[]): Promise<void> => {
      for (const { table, rows, noted, settled } of await this.#targets.expelled(this.#tables(session, signal), some)) {
        const statements = [expelSql(rows, version, inScope(table))];
        if (noted !== null) statements.push(commentSql(this.target(table), noted));
        if (settled !== null) statements.push(SCOPES.settle(settled));
        await session.query(statements.join("; "), signal);
      }
      await session.query("COMMIT", signal);
    };
    await this.#inSteps("removing rows that Millrace did not write", tables, EXPELLED_AT_ONCE, remove, signal);
  }

  async highestVersion(tables: readonly TableVersion[] | AllTargets, signal: AbortSignal): Promise<bigint> {
    const look = (session: Session) => this.#targets.highestVersion(this.#tables(session, signal), tables);
    return await this.#session.run("looking for old rows", look, signal);
  }

  async forget(signal: AbortSignal): Promise<void> {
    const remove = async (session: Session): Promise<void> => {
      await this.#session.verify(session, signal);
      await session.query(removeCheckpoint(this.#session.fence, { hasTargets: this.#lastSeen.mayUse }), signal);
    };
    await this.#session.run("removing the sink's progress", remove, signal);
  }

  async verify(signal: AbortSignal): Promise<void> {
    const look = async (session: Session): Promise<void> => {
      await this.#session.verify(session, signal);
      await this.#presence.check(session, signal);
    };
    try {
      await this.#session.run("looking at the target", look, signal);
    } catch (error) {
      if (!isDisplacement(error)) throw error;
      // The same look, under a claim of its own.
      await this.#owned(signal);
    }
  }

  async inspect(): Promise<Inspection> {
    return new PostgresInspection(this.#session, this.#options.schema, this.#targetForm);
  }

  async close(): Promise<void> {
    this.#session.close();
  }

  async #write(batch: Batch, call: BatchCall): Promise<void> {
    if (batch.kind !== "rows" || batch.tables.length === 0) return await applyWhole(call);
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

  #tables(session: Session, signal: AbortSignal, isOpen = false): PostgresWarehouse {
    return new PostgresWarehouse(this.#warehouse, session, isOpen, signal);
  }
}
