import { randomUUID } from "node:crypto";
import type { SinkProgress, Step, TableWrites } from "../../../src/core/model/batch.ts";
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
  StepPrefetch,
  TargetComparison,
  TargetEvolution,
  TargetPresence,
  TargetRows,
} from "../../../src/core/contracts/sink.ts";
import type { PostgresAddress } from "../client/url.ts";
import { applyRows, applyWhole, prepareRows } from "./write/apply.ts";
import { RenderedCopies } from "./write/copies.ts";
import { heldBy, sinkError, stopped, withoutRow } from "./errors.ts";
import { DEFAULT_FORM, type TargetForm } from "./tables/form.ts";
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
  FIND_WHOLE_METADATA,
  lockLease,
  lookAtProgress,
  readProgress,
  removeProgress,
  selectFence,
  selectProgress,
  type StoredProgress,
  takeLease,
} from "./progress.ts";
import { type Fenced, RawTarget } from "./raw/raw-target.ts";
import { Session } from "./session.ts";
import { Presence } from "./tables/presence.ts";
import type { TableStep } from "./write/small.ts";
import type { Merge, StepCall } from "./write/merge.ts";
import type { TargetTable } from "./tables/target-table.ts";
import { Targets } from "./tables/targets.ts";
import { expel, highestVersion } from "./versioned-rows.ts";
import { Frames } from "./wire.ts";

export interface PostgresSinkOptions {
  readonly name: string;
  /** Names the row of progress: `<daemon>/<sink>`. */
  readonly progressName: string;
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

/** The step whose COMMIT may have been sent without an answer. */
interface InFlight {
  readonly step: Step;
  readonly steps: bigint;
}

/**
 * Mirrors tables in a Postgres database, or keeps their history; rows and progress become durable in one transaction.
 */
export class PostgresSink implements Sink, TargetPresence, TargetRows, TargetEvolution, StepPrefetch, TargetComparison {
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
  readonly batch = BATCH;
  readonly raw: RawTarget;
  readonly #options: PostgresSinkOptions;
  readonly #targetForm: TargetForm;
  readonly #targets: Targets;
  /** One buffer for all sessions of this sink, so that steps allocate nothing. */
  readonly #frames = new Frames();
  /** The rows of the step in flight. */
  #copies = new RenderedCopies();
  /** The rows of the next step, if known. */
  #copiesAhead = new RenderedCopies();
  #prefetched: { readonly tables: readonly TableWrites[]; readonly merge: Merge } | null = null;
  readonly #presence: Presence;
  #session: Session | null = null;
  #closed = false;
  #lease = 0n;
  /** The target's step count as far as this process knows; the fence compares it. */
  #steps = 0n;
  #inFlight: InFlight | null = null;
  /** Names the session: see `progress.ts`. */
  #claim = "";
  /** A step of a raw copy may have been counted without an answer. */
  #isCountInDoubt = false;
  /** The text of the complete tables, if the target certainly has it. */
  #storedTables: string | null = null;
  /** A step that was found done after its connection broke: when it comes again, it is not written again. */
  #done: Step | null = null;

  constructor(options: PostgresSinkOptions) {
    this.name = options.name;
    this.#options = options;
    this.#targetForm = options.form ?? DEFAULT_FORM;
    this.form = this.#targetForm.mode;
    const { schema, dropsColumns } = options;
    const owner = options.progressName;
    this.#targets = new Targets({ owner, schema, form: this.#targetForm, dropsColumns });
    this.#presence = new Presence(owner);
    const fence = {
      now: () => this.#fence,
      counted: () => void this.#steps++,
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
    return this.#targets.quoted(table);
  }

  async open(lease: number, signal: AbortSignal): Promise<SinkProgress | null> {
    const session = await this.#connect(signal);
    return this.#guarded("opening the target", async () => {
      const found = await session.query(FIND_WHOLE_METADATA, signal);
      if (found.rows.length === 0) await session.query(CREATE_METADATA, signal);
      const { progressName } = this.#options;
      await session.query(endPredecessor(progressName, BigInt(lease)), signal);
      const fence = { ...this.#fence, lease: BigInt(lease) };
      const taken = readProgress(await session.query(takeLease(fence), signal));
      if (taken === null) {
        const holder = readProgress(await session.query(selectProgress(progressName), signal));
        throw fenceError(holder, fence);
      }
      this.#lease = taken.lease;
      this.#isCountInDoubt = false;
      this.#steps = taken.steps;
      this.#inFlight = null;
      this.#storedTables = null;
      this.#presence.reopened();
      return taken.progress;
    });
  }

  async look(signal: AbortSignal): Promise<SinkProgress | null> {
    const { progressName } = this.#options;
    const session = await this.#openBeside(signal);
    try {
      return await this.#guarded("looking at the target's progress", async () => {
        const found = await session.query(FIND_METADATA, signal);
        if (found.rows.length === 0) return null;
        return readProgress(await session.query(lookAtProgress(progressName), signal))?.progress ?? null;
      });
    } finally {
      session.close();
    }
  }

  async missing(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly TableVersion[]> {
    if (tables.length === 0) return [];
    const session = await this.#ready(signal);
    const convert = async (statements: readonly string[]) => {
      await this.#fencedDdl(session, signal);
      await session.query(`${statements.join("; ")}; COMMIT`, signal);
    };
    return this.#guarded("looking for tables", () => this.#targets.missing(session, tables, convert, signal));
  }

  async foreign(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly TableVersion[]> {
    const session = await this.#ready(signal);
    return this.#guarded("looking for tables", () => this.#targets.foreign(session, tables, signal));
  }

  async prepare(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    for (const table of tables) this.#targets.expectOwn(table);
    const doing = tables.length === 1 ? `preparing ${tables[0]!.id}` : `preparing ${tables.length} tables`;
    const prepare = async (session: Session, some: readonly TableVersion[]): Promise<void> => {
      const made: TargetTable[] = [];
      for (const table of some) made.push(await this.#targets.make(session, table, signal));
      await session.query("COMMIT", signal);
      for (const target of made) this.#targets.note(target);
      await this.#presence.add(session, made, signal);
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
    return await this.#guarded(`looking at ${to.id}`, () => this.#targets.carries(session, from, to, signal));
  }

  async apply(step: Step, outcome: Outcome, signal: AbortSignal): Promise<void> {
    if (signal.aborted) throw stopped("the step");
    const session = await this.#ready(signal);
    if (this.#done === step) return;
    this.#done = null;
    const texts = checkpointTexts(step.progress);
    const advance = advanceTo(this.#fence, step.progress.position, texts, this.#storedTables);
    this.#storedTables = null;
    this.#inFlight = { step, steps: this.#steps };
    const tableCount = step.kind === "rows" ? step.tables.length : 1;
    const what = tableCount === 1 ? "a step" : `a step of ${tableCount} tables`;
    await this.#guarded(`applying ${what} to ${this.name}`, () =>
      this.#write(step, { session, advance, outcome, signal }),
    );
    this.#steps++;
    this.#storedTables = texts.tables;
    this.#inFlight = null;
    this.#presence.applied(step, (table) => this.#targets.find(table));
  }

  prefetchRows(tables: readonly TableWrites[]): void {
    this.#prefetched = null;
    // The form of a shape that comes with this step is still unknown.
    if (!tables.every(({ table }) => this.#targets.find(table) !== undefined)) return;
    const merge = prepareRows(this.#tableSteps(tables), this.#copiesAhead);
    if (merge !== null) this.#prefetched = { tables, merge };
  }

  async expel(tables: readonly TableVersion[], version: bigint, signal: AbortSignal): Promise<void> {
    const remove = async (session: Session): Promise<void> => {
      for (const table of tables) await expel(session, this.target(table), version, signal);
      await session.query("COMMIT", signal);
    };
    await this.#fenced("removing rows that Millrace did not write", remove, signal);
  }

  async highestVersion(tables: readonly TableVersion[] | null, signal: AbortSignal): Promise<bigint> {
    const session = await this.#ready(signal);
    return await this.#guarded("looking for old rows", async () => {
      const names = tables?.map((table) => this.target(table)) ?? null;
      return await highestVersion(session, names, this.#options.schema, signal);
    });
  }

  async forget(signal: AbortSignal): Promise<void> {
    const session = await this.#ready(signal);
    await this.#guarded("removing the sink's progress", async () => {
      await session.query(removeProgress(this.#fence), signal);
    });
  }

  async verify(signal: AbortSignal): Promise<void> {
    const session = await this.#ready(signal);
    await this.#guarded("looking at the target", async () => {
      this.#compare(readProgress(await session.query(selectFence(this.#options.progressName), signal)));
      await this.#presence.check(session, signal);
    });
  }

  async inspect(): Promise<Inspection> {
    return new PostgresInspection({
      open: (signal) => this.#openBeside(signal),
      nameOf: (table) => this.#targets.nameOf(table),
      form: this.#targetForm,
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#session?.close();
    this.#session = null;
  }

  async #write(step: Step, call: StepCall): Promise<void> {
    if (step.kind !== "rows") return await applyWhole(step, this.#targets, call);
    const staged = this.#prefetched?.tables === step.tables ? this.#prefetched : null;
    if (staged !== null) {
      this.#prefetched = null;
      [this.#copies, this.#copiesAhead] = [this.#copiesAhead, this.#copies];
    }
    const rows = { tables: this.#tableSteps(step.tables), copies: this.#copies, merge: staged?.merge ?? null };
    return await applyRows(rows, call);
  }

  #tableSteps(tables: readonly TableWrites[]): readonly TableStep[] {
    const filled = tables.filter(({ count }) => count > 0);
    return filled.map((writes) => ({ table: this.#targets.get(writes.table), writes }));
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

  /** A session beside the one that applies steps. */
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
      const { progressName } = this.#options;
      await session.query(endPredecessor(progressName, this.#lease), signal);
      const entered = readProgress(await session.query(enterSession(this.#fence), signal));
      const found = entered ?? readProgress(await session.query(selectProgress(progressName), signal));
      const inFlight = this.#inFlight;
      if (inFlight !== null && found?.lease === this.#lease && found.steps === inFlight.steps + 1n) {
        this.#steps = found.steps;
        this.#done = inFlight.step;
        this.#inFlight = null;
        return;
      }
      if (this.#isCountInDoubt && found?.lease === this.#lease && found.steps === this.#steps + 1n) {
        this.#steps = found.steps;
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
    const sql = `BEGIN; ${LOCK_DDL}; ${lockLease(this.#options.progressName)}`;
    this.#compare(readProgress(await session.query(sql, signal)));
  }

  #compare(found: StoredProgress | null): void {
    const { lease, steps, claim } = this.#fence;
    if (found?.lease === lease && found.steps === steps && found.claim === claim) return;
    throw fenceError(found, this.#fence);
  }

  get #fence(): Fence {
    return { name: this.#options.progressName, lease: this.#lease, steps: this.#steps, claim: this.#claim };
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
      this.#compare(readProgress(await session.query(selectProgress(this.#options.progressName), signal)));
      return null;
    } catch (second) {
      if (second instanceof MillraceError) return second;
      session.close();
      return null;
    }
  }
}

const ROLLBACK_TIMEOUT_MS = 10_000;
