import type { Config } from "../config/config.ts";
import type {
  DocumentStatus,
  PipelineStatus,
  SinkStatus,
  SnapshotStatus,
  TablesStatus,
} from "../core/contracts/status.ts";
import { type Clock, deadline } from "../core/clock.ts";
import type { StoredError } from "../core/contracts/state-store.ts";
import type { Control } from "../runtime/control/control.ts";
import type {
  FreshAnswer,
  FreshRequest,
  LetterChoice,
  Replayed,
  SnapshotOrder,
  WaitAnswer,
} from "../core/contracts/orders.ts";
import { namesOfTable, type TableVersion } from "../core/model/schema.ts";
import type { ComparePort } from "../core/contracts/comparing.ts";
import { documentTableId, isDocument, NEST_SINK } from "../documents/document.ts";
import type { NestFacts, OpenNest } from "./documents.ts";

/** What the daemon's other parts see of its pipelines, and do to them. */
export type Controls = Omit<Control, "estimates" | "hasLetter"> & {
  readonly estimates: Pick<Control["estimates"], "counts">;
};

/** Sinks have a document a little before their positions are stored, and the nest forgets that it waits. */
const STORED_WITHIN_MS = 5_000;
/** How often it is seen whether documents still wait for a table. */
const HELD_LOOK_MS = 100;

const NAMED_AS_DOCUMENT = "documents have the schema `documents` in sinks";
const NAMED_OTHERWISE = "Leave it out of `source.tables`, or give the schema another name.";

interface JoinedParts {
  readonly clock: Clock;
  readonly tables: Control;
  readonly documents: Control;
  readonly config: Pick<Config, "documents" | "sinks">;
  readonly nest: Pick<OpenNest, "held" | "listed">;
  readonly facts: () => NestFacts;
}

/** The two pipelines of a daemon with documents as one. A sink is of one of them, and so is a table. */
export class JoinedControl implements Controls {
  readonly #parts: JoinedParts;

  constructor(parts: JoinedParts) {
    this.#parts = parts;
  }

  async run(signal: AbortSignal): Promise<never> {
    return await Promise.race([this.#parts.tables.run(signal), this.#parts.documents.run(signal)]);
  }

  get isStoredKnown(): boolean {
    return this.#parts.tables.isStoredKnown && this.#parts.documents.isStoredKnown;
  }

  async status(): Promise<PipelineStatus> {
    const [tables, documents] = await Promise.all([this.#parts.tables.status(), this.#parts.documents.status()]);
    const facts = this.#parts.facts();
    const joined = joinedStatus(tables, documents, facts.failure);
    const { pending, refused } = joined.tables;
    return {
      ...joined,
      tables: {
        ...joined.tables,
        pending: [...pending, ...this.#held(null)],
        refused: [...refused, ...this.#namedAsDocuments],
      },
      documents: this.#parts.config.documents.map(({ name }) => this.#document(name, joined, facts)),
    };
  }

  /** Tables that the source got since the documents were resolved: no sink takes them. */
  get #namedAsDocuments(): TablesStatus["refused"] {
    const named = this.#parts.tables.schemas.filter(({ table }) => isDocument(namesOfTable(table)));
    return named.map(({ table }) => ({ table, reason: NAMED_AS_DOCUMENT, fix: NAMED_OTHERWISE }));
  }

  /** `sink`: of its documents alone. */
  #held(sink: string | null): TablesStatus["pending"] {
    const own = this.#parts.config.sinks.find(({ name }) => name === sink)?.documents;
    const held = this.#parts.nest.held.filter(({ name }) => own == null || own.includes(name));
    return held.map(({ name, tableIds }) => {
      return {
        table: documentTableId(name),
        why: `${tableIds.join(", ")} ${tableIds.length === 1 ? "is" : "are"} not whole in the nest`,
        fix: null,
      };
    });
  }

  #document(name: string, { sinks }: PipelineStatus, { isFilled, waiting }: NestFacts): DocumentStatus {
    const own = this.#parts.config.sinks
      .filter(({ documents }) => documents?.includes(name) === true)
      .map((sink) => sink.name);
    const lags = sinks.flatMap((sink) => (own.includes(sink.name) ? [sink.lagSeconds] : []));
    const known = lags.filter((lag) => lag !== null);
    const { count = 0, isMore = false, sinceMs = null } = waiting.get(name) ?? {};
    const waitedMs = sinceMs === null ? 0 : this.#parts.clock.now() - sinceMs;
    if (waitedMs > STORED_WITHIN_MS) known.push(waitedMs / 1_000);
    return {
      name,
      table: documentTableId(name),
      sinks: own,
      isFilled,
      lagSeconds: lags.includes(null) ? null : Math.max(0, ...known),
      waiting: count,
      isMore,
      waitingSince: sinceMs === null ? null : new Date(sinceMs).toISOString(),
    };
  }

  async lagOf(sink: string): Promise<string> {
    return await this.#of(sink).lagOf(sink);
  }

  get estimates(): Controls["estimates"] {
    return { counts: new Map([...this.#parts.tables.estimates.counts, ...this.#parts.documents.estimates.counts]) };
  }

  get schemas(): Control["schemas"] {
    return [...this.#parts.tables.schemas, ...this.#parts.documents.schemas];
  }

  get taken(): Control["taken"] {
    return [...this.#parts.tables.taken, ...this.#parts.documents.taken];
  }

  async memory(): Promise<ReadonlyMap<string, number>> {
    return new Map([...(await this.#parts.tables.memory()), ...(await this.#parts.documents.memory())]);
  }

  async copy(sink: string, signal: AbortSignal): Promise<string> {
    return await this.#of(sink).copy(sink, signal);
  }

  async pause(sink: string | null, tables: readonly string[] = []): Promise<void> {
    for (const [control, own] of this.#chosen(sink, tables)) await control.pause(sink, own);
  }

  async resume(sink: string | null, tables: readonly string[] = []): Promise<void> {
    for (const [control, own] of this.#chosen(sink, tables)) await control.resume(sink, own);
  }

  /** Without sinks or tables: the tables of the database, for its sinks; documents are made of them, and follow. */
  async startSnapshot({ sinks, tables, where }: SnapshotOrder): Promise<readonly string[]> {
    const read: string[] = [];
    for (const control of [this.#parts.tables, this.#parts.documents]) {
      const ownSinks = sinks.filter((sink) => this.#of(sink) === control);
      const ownTables = tables.filter((id) => this.#ofTable(id) === control);
      const isMeant =
        sinks.length + tables.length === 0
          ? control === this.#parts.tables
          : (sinks.length === 0 || ownSinks.length > 0) && (tables.length === 0 || ownTables.length > 0);
      if (isMeant) read.push(...(await control.startSnapshot({ sinks: ownSinks, tables: ownTables, where })));
    }
    // Neither has both: one of them says what is wrong.
    if (read.length === 0 && sinks.length > 0) return await this.#of(sinks[0]!).startSnapshot({ sinks, tables, where });
    return read;
  }

  async snapshots(): Promise<readonly SnapshotStatus[]> {
    return [...(await this.#parts.tables.snapshots()), ...(await this.#parts.documents.snapshots())];
  }

  /** The state numbers the snapshots of both, and each control knows its own. */
  async cancelSnapshot(id: number): Promise<boolean> {
    return (await this.#parts.tables.cancelSnapshot(id)) || (await this.#parts.documents.cancelSnapshot(id));
  }

  async replayLetters(choice: LetterChoice, timeoutMs: number, signal: AbortSignal): Promise<Replayed> {
    const all = await this.#ofLetters(choice, (control, own) => control.replayLetters(own, timeoutMs, signal));
    const sum = (of: (one: Replayed) => number): number => all.reduce((total, one) => total + of(one), 0);
    return {
      replayed: sum(({ replayed }) => replayed),
      superseded: sum(({ superseded }) => superseded),
      failed: sum(({ failed }) => failed),
      waiting: all.flatMap(({ waiting }) => waiting),
    };
  }

  async discardLetters(choice: LetterChoice): Promise<number> {
    const counts = await this.#ofLetters(choice, (control, own) => control.discardLetters(own));
    return counts.reduce((total, one) => total + one, 0);
  }

  /** Documents follow what the nest has. */
  async wait(timeoutMs: number, signal: AbortSignal): Promise<WaitAnswer> {
    const untilMs = this.#parts.clock.elapsed() + timeoutMs;
    const reached = await this.#parts.tables.wait(timeoutMs, signal);
    if (!reached.reached) return reached;
    const missing = await this.#unlisted(null, untilMs, signal);
    if (missing.length > 0) return { reached: false, missing };
    return await this.#parts.documents.wait(Math.max(1, untilMs - this.#parts.clock.elapsed()), signal);
  }

  /** A document's sink has what the nest had when that had everything before the token. */
  async fresh(request: FreshRequest, timeoutMs: number, signal: AbortSignal): Promise<FreshAnswer> {
    const untilMs = this.#parts.clock.elapsed() + timeoutMs;
    const { sink, tables } = request;
    const isOfDocuments = sink !== null && this.#of(sink) === this.#parts.documents;
    const isOfTables = sink !== null && !isOfDocuments;
    if (isOfTables) return await this.#parts.tables.fresh(request, timeoutMs, signal);
    const ofTables = tables.filter((id) => this.#ofTable(id) === this.#parts.tables);
    const below = { ...request, sink: isOfDocuments ? NEST_SINK : null, tables: ofTables };
    const held = await this.#parts.tables.fresh(below, timeoutMs, signal);
    if (!held.reached) return held;
    const missing = await this.#unlisted(sink, untilMs, signal);
    if (missing.length > 0) return { ...held, reached: false, missing };
    const above = { at: null, sink, tables: tables.filter((id) => this.#ofTable(id) === this.#parts.documents) };
    const leftMs = Math.max(1, untilMs - this.#parts.clock.elapsed());
    const shown = await this.#parts.documents.fresh(above, leftMs, signal);
    return { ...shown, position: shown.reached ? held.position : null };
  }

  /** Waits until the nest has listed what it has; returns which documents wait for a table until then. */
  async #unlisted(sink: string | null, untilMs: number, signal: AbortSignal): Promise<readonly string[]> {
    for (;;) {
      using limit = deadline(this.#parts.clock, Math.max(1, untilMs - this.#parts.clock.elapsed()), signal);
      try {
        await this.#parts.nest.listed(limit.signal);
        if (this.#held(sink).length === 0) return [];
        await this.#parts.clock.sleep(HELD_LOOK_MS, limit.signal);
      } catch (error) {
        if (signal.aborted || !limit.signal.aborted) throw error;
        const held = this.#held(sink).map(({ table, why }) => `table ${table} waits: ${why}`);
        return held.length > 0 ? held : ["changed documents are still being listed"];
      }
    }
  }

  async untilCaughtUp(signal: AbortSignal): Promise<readonly string[]> {
    const missing = await this.#parts.tables.untilCaughtUp(signal);
    const { failure } = this.#parts.facts();
    if (missing.length > 0) return missing;
    if (failure === null) {
      await this.#parts.nest.listed(signal);
      return [
        ...this.#held(null).map(({ table, why }) => `table ${table} waits: ${why}`),
        ...(await this.#parts.documents.untilCaughtUp(signal)),
      ];
    }
    return [`documents are not followed: ${failure.message}`];
  }

  #of(sink: string): Control {
    return this.#parts.documents.taken.some((one) => one.sink === sink) ? this.#parts.documents : this.#parts.tables;
  }

  #ofTable(id: string): Control {
    return isDocument(namesOfTable(id)) ? this.#parts.documents : this.#parts.tables;
  }

  /** Each with the tables that are meant there. */
  #chosen(sink: string | null, tables: readonly string[]): readonly (readonly [Control, readonly string[]])[] {
    if (sink !== null) return [[this.#of(sink), tables]];
    return [this.#parts.tables, this.#parts.documents].flatMap((control) => {
      const own = tables.filter((id) => this.#ofTable(id) === control);
      return tables.length === 0 || own.length > 0 ? [[control, own] as const] : [];
    });
  }

  /** Letters by number are of any sink: each control knows its own. */
  async #ofLetters<T>(
    choice: LetterChoice,
    work: (control: Control, own: LetterChoice) => Promise<T>,
  ): Promise<readonly T[]> {
    if (choice.sink !== null) return [await work(this.#of(choice.sink), choice)];
    if (choice.ids === null) return [await work(this.#parts.tables, choice), await work(this.#parts.documents, choice)];
    const own = await Promise.all(choice.ids.map((id) => this.#parts.documents.hasLetter(id)));
    const ids = (isOfDocuments: boolean): readonly number[] => choice.ids!.filter((_, i) => own[i] === isOfDocuments);
    const parts = [
      [this.#parts.tables, ids(false)],
      [this.#parts.documents, ids(true)],
    ] as const;
    return await Promise.all(
      parts.flatMap(([control, some]) => (some.length === 0 ? [] : [work(control, { ...choice, ids: some })])),
    );
  }
}

function joinedStatus(tables: PipelineStatus, documents: PipelineStatus, failure: StoredError | null): PipelineStatus {
  const nest = tables.sinks.find(({ kind }) => kind === "nest");
  return {
    ...tables,
    // Failed sinks of documents are no reason to call the daemon stopped.
    phase: tables.phase === "streaming" && failure === null ? documents.phase : tables.phase,
    source: {
      ...tables.source,
      copy: tables.source.copy ?? documents.source.copy,
      slowFunctions: [...tables.source.slowFunctions, ...documents.source.slowFunctions],
    },
    sinks: [
      ...tables.sinks,
      ...documents.sinks.map((sink) => failedSink(behindNest(sink, nest, documents.source), failure)),
    ],
    tables: joinedTables(tables.tables, documents.tables),
    unfinishedSnapshots: tables.unfinishedSnapshots + documents.unfinishedSnapshots,
    snapshots: [...tables.snapshots, ...documents.snapshots],
  };
}

/** A sink of documents is behind by what the nest lacks too, and a failure of the nest is one of all of them. */
function behindNest(
  sink: SinkStatus,
  nest: SinkStatus | undefined,
  { error, needsPerson }: PipelineStatus["source"],
): SinkStatus {
  const sum = (a: number | null, b: number | null | undefined): number | null =>
    a === null || b == null ? null : a + b;
  return {
    ...sink,
    lagSeconds: sum(sink.lagSeconds, nest?.lagSeconds),
    // The list of changed documents has no bytes of log.
    lagBytes: nest?.lagBytes ?? null,
    ...(sink.error === null && error !== null ? { error, needsPerson } : {}),
  };
}

function failedSink(sink: SinkStatus, error: StoredError | null): SinkStatus {
  return error === null ? sink : { ...sink, state: "failed", activity: "stopped", error, needsPerson: true };
}

function joinedTables(a: TablesStatus, b: TablesStatus): TablesStatus {
  return {
    captured: a.captured + b.captured,
    refused: [...a.refused, ...b.refused],
    unreadable: [...a.unreadable, ...b.unreadable],
    suspended: [...a.suspended, ...b.suspended],
    pending: [...a.pending, ...b.pending],
    stubborn: [...a.stubborn, ...b.stubborn],
    areKnown: a.areKnown && b.areKnown,
    notLooked: a.notLooked ?? b.notLooked,
  };
}

/** A pipeline; null: it does not stream yet. */
interface Compared {
  readonly comparisons: ComparePort | null;
}

/**
 * What comparisons ask of a daemon, looked up at each turn. It is the same port as long as both pipelines have theirs: what
 * comparisons keep open in sinks goes with it.
 */
export function comparePorts(tables: Compared, documents: Compared | null): () => ComparePort | null {
  if (documents === null) return () => tables.comparisons;
  let joined: { readonly below: ComparePort; readonly above: ComparePort; readonly port: ComparePort } | null = null;
  return () => {
    const [below, above] = [tables.comparisons, documents.comparisons];
    if (below === null || above === null) return null;
    if (joined?.below !== below || joined.above !== above) joined = { below, above, port: joinedPort(below, above) };
    return joined.port;
  };
}

/** Two pipelines as one. A sink is of one of them, and so is a table. */
function joinedPort(tables: ComparePort, documents: ComparePort): ComparePort {
  const of = (sink: string): ComparePort => (documents.sinks.includes(sink) ? documents : tables);
  const has = (port: ComparePort, { id }: TableVersion): boolean => port.tables.some((table) => table.id === id);
  return {
    get sinks() {
      return [...tables.sinks, ...documents.sinks];
    },
    get tables() {
      return [...tables.tables, ...documents.tables];
    },
    get suspended() {
      return new Map([...tables.suspended, ...documents.suspended]);
    },
    get besides() {
      return tables.besides;
    },
    takes: (sink, table) => of(sink).takes(sink, table) && has(of(sink), table),
    unready: (sink, table) => of(sink).unready(sink, table),
    batch: (sink) => of(sink).batch(sink),
    isComparable: (sink) => of(sink).isComparable(sink),
    inspect: (sink, signal) => of(sink).inspect(sink, signal),
    // The sinks that take one table are of one pipeline.
    at: (place, signal) => of(place.sinks[0] ?? "").at(place, signal),
    awaited: (sink, tableId, keys) => of(sink).awaited(sink, tableId, keys),
    repair: (sink, table, keys) => of(sink).repair(sink, table, keys),
    refused: (sink, tableId) => of(sink).refused(sink, tableId),
  };
}
