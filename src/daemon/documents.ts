/**
 * Documents in a daemon: the nest, a sink of the tables that documents are made of, and a second pipeline, whose source is the
 * nest. See decision 40.
 */
import { dirname } from "node:path";
import type { Config } from "../config/config.ts";
import type { NestTable } from "../../connectors/nest/disk.ts";
import { makeFolder } from "../core/files.ts";
import { abortOf, type Clock, timestamp } from "../core/clock.ts";
import type { TableShape } from "../core/contracts/catalog.ts";
import { type StoredError, storedErrorOf } from "../core/contracts/state-store.ts";
import type { Logger } from "../core/contracts/telemetry.ts";
import { findMillraceError } from "../core/errors.ts";
import { earliest } from "../core/model/position.ts";
import type { Sink } from "../core/contracts/sink.ts";
import type { Source } from "../core/contracts/source.ts";
import { columnsTaken } from "../documents/places.ts";
import { definitionOf, type Document, documentTableId, NEST_SINK, type WantedNode } from "../documents/document.ts";
import { columnsChanged, documentsError } from "../documents/errors.ts";
import { DocumentReads } from "../documents/document-reads.ts";
import { functionsOf, Transforms, withFunctionsOf } from "../documents/transforms.ts";
import { digestOf, hiding, joinsKnown, type Resolved, resolveDocuments, tablesNamed } from "../documents/resolve.ts";
import type { DeepSides } from "../reconcile/deep.ts";
import { SourceRows } from "../reconcile/foreign/source-rows.ts";
import type { Control } from "../runtime/control/control.ts";
import type { Pipeline } from "../runtime/pipeline.ts";
import { isTriedAgain } from "../runtime/retry.ts";

/** Beside what is told: how often it is seen whether the nest is filled. */
const LOOK_MS = 500;

/** How long after the last beginning columns may make everything begin again, while they do so over and over. */
const AGAIN_MS = 4_000;
const AGAIN_MS_MAX = 60_000;
/** When this process last began again for columns, by its configuration. */
const beginnings = new WeakMap<object, { lastMs: number; waitMs: number }>();

/** By the tables and foreign keys that the source has now: `joined`. */
export async function resolvedDocuments(
  { documents }: Pick<Config, "documents">,
  { catalog }: Pick<Source, "catalog">,
  signal: AbortSignal,
): Promise<Resolved & { readonly joined: readonly TableShape[] }> {
  const { tables, refused } = await catalog.tables(signal);
  const named = new Set(documents.flatMap(tablesNamed));
  const joined = tables.filter((table) => named.has(`${table.schema}.${table.table}`));
  const known = { tables, refused, ...(await joinsKnown(catalog, joined, signal)) };
  return { ...resolveDocuments(documents, known, functionsOf(documents)), joined };
}

/** Null: the source has no statistics. */
export async function nestTablesOf(
  { documents, joined }: Pick<Awaited<ReturnType<typeof resolvedDocuments>>, "documents" | "joined">,
  { catalog }: Pick<Source, "catalog">,
  signal: AbortSignal,
): Promise<readonly NestTable[] | null> {
  if (catalog.sizes === undefined || documents.length === 0) return null;
  const { nestTables } = await import("../../connectors/nest/disk.ts");
  return nestTables(documents, joined, await catalog.sizes(joined, signal));
}

/**
 * Those that fit no longer stay as they were, if the nest has them and the configuration says the same: somebody may have
 * dropped the foreign key that joins two tables, and columns that are gone concern their document alone.
 */
async function expectDocuments(
  config: Pick<Config, "documents" | "nest">,
  source: Pick<Source, "catalog">,
  logger: Logger,
  signal: AbortSignal,
): Promise<Pick<OpenNest, "documents" | "resolvedFrom">> {
  const { documents, problems, joined: resolvedFrom } = await resolvedDocuments(config, source, signal);
  if (problems.length === 0) return { documents, resolvedFrom };
  const functions = functionsOf(config.documents);
  const { documentsIn } = await import("../../connectors/nest/open.ts");
  const wanted = new Map(config.documents.map((one) => [one.name, digestOf(one)]));
  const kept = documentsIn(config.nest).filter(
    ({ name, wanted: digest }) =>
      digest !== undefined &&
      wanted.get(name) === digest &&
      problems.some(({ document }) => document === name) &&
      problems.every(({ document, isBinding }) => document !== name || isBinding !== true),
  );
  const [first, ...rest] = problems.filter(({ document }) => kept.every(({ name }) => name !== document));
  if (first !== undefined) throw documentsError([first, ...rest]);
  for (const { place, message } of problems) logger.warn({ place }, `${message}; the document stays as it was`);
  const stayed = kept.map((document) => {
    const { hides: _, ...rest } = document;
    const one = config.documents.find(({ name }) => name === document.name)!;
    return withFunctionsOf({ ...rest, ...hiding(one, resolvedFrom) }, functions);
  });
  return { documents: [...documents, ...stayed], resolvedFrom };
}

interface FollowParts {
  readonly clock: Clock;
  /** Of the tables that the nest has. */
  readonly tables: Pipeline;
  readonly documents: Pipeline;
  readonly nest: OpenNest;
  readonly logger: Logger;
  /** The nest has all rows. */
  readonly onFilled: () => void;
  /** It has ended for good. */
  readonly onFailure: (error: StoredError) => void;
}

/**
 * Tells the nest which of its tables are not whole, so that their documents wait: they would lack rows, or seem to be gone. A
 * first start waits until all tables are filled that can be.
 */
export async function holdDocuments(
  { clock, tables, nest }: Pick<FollowParts, "clock" | "tables" | "nest">,
  signal: AbortSignal,
): Promise<never> {
  const { news } = tables;
  for (;;) {
    const told = news.count;
    const lacked = tables.lackedBy(NEST_SINK, nest.tableIds);
    try {
      if (lacked !== null) await nest.hold(lacked.all, signal);
    } catch (error) {
      // The file is away, or its disk is full, of which the sink tells. Its checkpoint says what is not whole.
      if (signal.aborted || findMillraceError(error) === undefined) throw error;
    }
    await news.after(told, clock, LOOK_MS, signal);
  }
}

/** Tells the nest what all sinks of documents have by now, sooner than the state stores it. */
export async function tellPassed(
  { clock, documents, nest }: Pick<FollowParts, "clock" | "documents" | "nest">,
  signal: AbortSignal,
): Promise<never> {
  const { news } = documents;
  for (;;) {
    const told = news.count;
    const { epoch, facts, lives } = documents;
    const covered = lives.flatMap(({ positions }) => positions.covered ?? []);
    const isOfThisLog = covered.length === lives.length && covered.every((one) => one.epoch === epoch);
    const lowest = earliest(covered);
    const taking = lives.filter(({ state, isFailing }) => state === "streaming" && !isFailing);
    const followed = earliest(taking.flatMap(({ positions }) => positions.covered ?? [])) ?? lowest;
    if (facts.phase === "streaming" && isOfThisLog && lowest !== undefined && followed !== undefined)
      nest.passed(lowest.commit, followed.commit);
    await news.after(told, clock, LOOK_MS, signal);
  }
}

/**
 * Runs the pipeline of documents, at first when the nest has its tables, as far as they can be read. If it fails for good, its
 * sinks have failed, and those of tables go on.
 */
export async function followNest(
  { clock, tables, documents, nest, logger, onFilled, onFailure }: FollowParts,
  signal: AbortSignal,
): Promise<void> {
  const { news } = tables;
  const isFirst = (await documents.state.source.get()) === null;
  for (;;) {
    const told = news.count;
    const lacked = tables.lackedBy(NEST_SINK, nest.tableIds);
    const isEnough = isFirst ? lacked?.read.size === 0 : lacked !== null && lacked.all.size < nest.tableIds.length;
    // Before the nest has stored which tables are whole, nobody can ask it how its lists continue.
    if (nest.isTold && (isEnough || lacked?.read.size === 0)) break;
    await news.after(told, clock, LOOK_MS, signal);
  }
  onFilled();
  try {
    await documents.run(signal);
  } catch (error) {
    const known = findMillraceError(error);
    if (signal.aborted || known === undefined || known.reason === "moved") throw error;
    logger.error({ code: known.code, error }, `documents are not followed any more: ${known.message}`);
    onFailure(storedErrorOf(known, timestamp(clock)));
    await abortOf(signal);
  }
}

/**
 * A document without a list of columns has all of them: begins again with other documents when the stream shows others than
 * those that they were made from. Rejects with the reason `moved`, so that everything is opened again. Tables that change all the time
 * hold up no documents: what the last beginning owes is read first, and the next one is later each time.
 */
export async function watchColumns(
  config: Pick<Config, "documents">,
  source: Pick<Source, "catalog">,
  { clock, tables, documents, nest, logger }: Pick<FollowParts, "clock" | "tables" | "documents" | "nest" | "logger">,
  signal: AbortSignal,
): Promise<never> {
  const open = new Set(config.documents.flatMap(({ root }) => tablesWithAllColumns(root)));
  const isOpen = ({ schema, table }: TableShape): boolean => open.has(`${schema}.${table}`);
  const columnsOf = (shapes: readonly TableShape[]): ReadonlyMap<string, string> =>
    new Map(shapes.filter(isOpen).map(({ id, columns }) => [id, JSON.stringify(columns.map(({ name }) => name))]));
  const owes = (): boolean => {
    const lacked = tables.lackedBy(NEST_SINK, nest.tableIds);
    const filled = documents.lives.filter(({ state }) => state === "streaming");
    return lacked === null || lacked.read.size > 0 || filled.some(({ name }) => documents.owesReads(name));
  };
  const again = (beginnings.get(config) ?? beginnings.set(config, { lastMs: -Infinity, waitMs: 0 }).get(config))!;
  let known = columnsOf(nest.resolvedFrom);
  let said = "";
  for (;;) {
    await clock.sleep(LOOK_MS, signal);
    const now = columnsOf(tables.gate.tables);
    if ([...now].every(([id, columns]) => known.get(id) === columns) || owes()) continue;
    const sinceMs = clock.elapsed() - again.lastMs;
    if (sinceMs < again.waitMs) continue;
    try {
      // A stream that is behind shows former columns.
      const { documents: others } = await resolvedDocuments(config, source, signal);
      const before = new Map(nest.documents.map((one) => [one.name, definitionOf(one)]));
      if (others.some((one) => before.get(one.name) !== definitionOf(one))) {
        again.waitMs = sinceMs < 2 * AGAIN_MS_MAX ? Math.min(Math.max(2 * again.waitMs, AGAIN_MS), AGAIN_MS_MAX) : 0;
        again.lastMs = clock.elapsed();
        throw columnsChanged();
      }
      known = now;
    } catch (error) {
      const failure = findMillraceError(error);
      if (signal.aborted || failure === undefined || !isTriedAgain(failure)) throw error;
      if (failure.message !== said) logger.warn({ error }, "the columns of documents could not be looked at");
      said = failure.message;
    }
  }
}

/** Two ways to the same documents: the nest's, and one that does without it. */
export async function deepSides(
  {
    source,
    nest,
    control,
  }: {
    readonly source: Source;
    readonly nest: Pick<OpenNest, "documents" | "source" | "transforms">;
    /** Of the tables. */
    readonly control: Pick<Control, "fresh">;
  },
  signal: AbortSignal,
): Promise<DeepSides> {
  const reads = new SourceRows(source);
  const { tables } = await reads.tables(signal);
  const held = new SourceRows(nest.source);
  const made = await held.tables(signal);
  const { documents, transforms } = nest;
  return {
    sink: NEST_SINK,
    source: new DocumentReads({ documents, transforms, tables, made, reads }),
    nest: held,
    madeOf: new Map(
      documents.map((document) => [documentTableId(document.name), [...columnsTaken([document]).keys()]]),
    ),
    settle: async (patienceMs, until) =>
      (await control.fresh({ at: null, sink: NEST_SINK, tables: [] }, patienceMs, until)).missing,
  };
}

function tablesWithAllColumns({ from, columns, relations }: WantedNode): readonly string[] {
  return [...(columns === null ? [from] : []), ...relations.flatMap(tablesWithAllColumns)];
}

/** What the status says of documents beside the two pipelines' own. */
export interface NestFacts {
  /** Why documents are not followed any more; null: they are. */
  readonly failure: StoredError | null;
  readonly isFilled: boolean;
  /** By documents' names. */
  readonly waiting: ReadonlyMap<string, WaitingDocuments>;
}

interface WaitingDocuments {
  readonly count: number;
  readonly isMore: boolean;
  readonly sinceMs: number | null;
}

export interface OpenNest {
  readonly documents: readonly Document[];
  /** The tables, as the source had them. */
  readonly resolvedFrom: readonly TableShape[];
  /** Of the tables that documents take rows of. */
  readonly tableIds: readonly string[];
  readonly sink: Sink;
  readonly source: Source;
  readonly transforms: Transforms;
  readonly waiting: () => NestFacts["waiting"];
  /** These tables are not whole. */
  hold(tableIds: ReadonlySet<string>, signal: AbortSignal): Promise<void>;
  /** Whether it has stored since its opening which tables are not whole. */
  readonly isTold: boolean;
  /** Documents that wait until these tables are whole. */
  readonly held: readonly { readonly name: string; readonly tableIds: readonly string[] }[];
  /** All sinks of documents have what was before this position, and those that take rows now what was before the other one. */
  passed(commit: bigint, followed: bigint): void;
  /** Resolves when all that the nest has is in the list of changed documents. */
  listed(signal: AbortSignal): Promise<void>;
}

export async function openNestOf(
  config: Pick<Config, "name" | "documents" | "nest">,
  source: Source,
  logger: Logger,
  signal: AbortSignal,
): Promise<OpenNest> {
  const { documents, resolvedFrom } = await expectDocuments(config, source, logger, signal);
  const { openNest } = await import("../../connectors/nest/open.ts");
  makeFolder(dirname(config.nest), 0o700);
  const transforms = new Transforms(config.documents);
  const opened = openNest({ path: config.nest, documents, transforms, name: NEST_SINK, owner: config.name });
  const { nest, sink, source: documentSource, waiting } = opened;
  return {
    documents,
    resolvedFrom,
    tableIds: nest.tableIds,
    sink,
    source: { ...documentSource, madeFrom: { kind: source.kind, database: source.database } },
    transforms,
    waiting,
    hold: (tableIds, until) => nest.hold(tableIds, until),
    get isTold() {
      return nest.plan !== null;
    },
    passed: (commit, followed) => nest.passed(commit - 1n, followed - 1n),
    listed: (until) => nest.listed(until),
    get held() {
      return nest.held;
    },
  };
}
