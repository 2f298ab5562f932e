/** The captured tables, kept in step with the catalogue and the publication. */
import type { CapturedTables, RefusedTable } from "../../../src/core/contracts/catalog.ts";
import type { StreamOptions } from "../../../src/core/contracts/change-log.ts";
import type { CreatedLog, CreateRequest, HeldPositions } from "../../../src/core/contracts/log-admin.ts";
import type { LogIdentity } from "../../../src/core/contracts/positions.ts";
import { reasonOf } from "../../../src/core/errors.ts";
import { tableId } from "../../../src/core/model/schema.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import { Turn } from "../../../src/core/waiting.ts";
import type { LockHolders } from "../../kit/lock-holders.ts";
import { holdersOf, lockHolders } from "../blocking-transactions.ts";
import { quoteTable } from "../../../src/postgres/quote.ts";
import type { SourceContext } from "./wire/context.ts";
import {
  checkPublicationHistory,
  lacksEntries,
  PUBLICATION_PARTS,
  publicationIdentity,
  publicationPart,
  withoutEntries,
} from "./catalog/publication-history.ts";
import { addAdvice, addRefusal, type Publication, publishable, readPublication } from "./catalog/publication.ts";
import { leaving, type Synced, syncPublication, takeOut } from "./catalog/publish.ts";
import { readSlot } from "./log/slot.ts";
import { type Landmark, LANDMARK, spellLandmark } from "./log/landmark.ts";
import { mustSaySchemas, saySchemas } from "./log/schema-names.ts";
import { isOfStandby, KEPT } from "./log/timeline.ts";
import { formatLsn, parseLsn } from "./wire/lsn.ts";
import { createLog, resumeLog } from "./log-admin.ts";
import type { PostgresStream } from "./stream/change-stream.ts";
import type { Catalog, CatalogTable } from "./catalog/catalog.ts";
import { Generations, leavesOf, SeenColumns, ShownLeaves, treesOf } from "./catalog/unlogged-changes.ts";
import { FULL, fullIdentity } from "./catalog/keys.ts";
import { type LeftOut, leftOutByLists, shownBesides } from "./catalog/differences.ts";
import { carriersOf } from "./catalog/trees.ts";
import { type Candidate, isIllegible, selectTables, type Selected } from "./catalog/selection.ts";

export class PublishedTables {
  readonly #context: SourceContext;
  /**
   * Comparing the publication with what is known, and changing both, take turns: a table that is removed in between would
   * be missed at the next start.
   */
  readonly #turn = new Turn();
  /** The publication as it was last seen or made: less than that is a gap. */
  #identity: LogIdentity | undefined;
  /** Where the slot's log began at the last look. */
  #restart: bigint | null = null;
  #generations = new Generations(undefined);
  readonly #columns = new SeenColumns();
  readonly leaves = new ShownLeaves();
  /** By oid, the tables that were locked at the last attempt to publish them, and by whom. */
  #locked: ReadonlyMap<number, LockHolders | null> = new Map();
  /** Columns that the last look did not find in the publication. */
  leftOut: LeftOut | null = null;
  /** See `CapturedTables`. */
  besides: ReadonlyMap<string, string> = new Map();
  /** Of the first stream. */
  onUnloggedRows: StreamOptions["onUnloggedRows"];
  /** The first stream. */
  stream: Pick<PostgresStream, "last"> | null = null;
  /** Becomes the landmark as soon as a sink has it. */
  #next: Landmark | null = null;

  constructor(context: SourceContext) {
    this.#context = context;
  }

  /** The log's identity, once the log was created or compared. */
  get identity(): LogIdentity | undefined {
    return this.#identity;
  }

  async create(request: CreateRequest, signal: AbortSignal): Promise<CreatedLog> {
    const log = await createLog(this.#context, request, signal);
    this.#identity = log.identity;
    return log;
  }

  async resume(identity: LogIdentity, held: HeldPositions, signal: AbortSignal): Promise<LogIdentity> {
    using _ = await this.#turn.take(signal);
    const { [MOVED]: moved, ...stored } = identity;
    // After a reconnect more is known than was stored.
    const known = { ...stored, ...(this.#identity === undefined ? {} : laterPart(this.#identity)) };
    this.#restart = null;
    this.#next = this.stream = null;
    const resumed = await resumeLog(this.#context, known, held, signal);
    if (this.#identity === undefined) this.#generations = new Generations(moved);
    this.#identity = moved === undefined ? resumed : { ...resumed, [MOVED]: moved };
    return this.#identity;
  }

  /** Of the sinks' positions the furthest tells which transactions one of them has. */
  remember(positions: readonly bigint[]): LogIdentity | null {
    const identity = this.#identity;
    if (identity === undefined || isOfStandby(identity)) return null;
    const next = this.#next;
    const isHeld = next !== null && positions.some((position) => position > next.commit);
    if (isHeld) this.#identity = { ...identity, [LANDMARK]: spellLandmark(next) };
    if (isHeld || next === null) this.#next = this.stream?.last ?? null;
    return isHeld ? (this.#identity ?? null) : null;
  }

  async tables(signal: AbortSignal): Promise<CapturedTables> {
    const selected = await selectTables(this.#context, false, signal);
    const { captured, refused, catalog, publication } = selected;
    // Invariant: before a table is known by its new name, and read.
    if (mustSaySchemas(catalog.version)) await this.#saySchemas(catalog, signal);
    this.leftOut = leftOutByLists(this.#context.publication, selected);
    this.besides = shownBesides(selected);
    const generations = this.#generations.look(captured, catalog, publication);
    for (const id of this.leaves.look(captured, catalog)) await this.onUnloggedRows?.(id);
    const unpublished = captured.filter(({ shape }) => this.#identity !== undefined && !generations.has(shape.id));
    const isOther = this.#context.leaves.take(leavesOf(captured, catalog), treesOf(captured));
    // Invariant: what a stream decodes before this is committed before the read that a new generation brings.
    if (isOther) this.#context.marks.renew();
    return {
      tables: captured.filter((candidate) => !unpublished.includes(candidate)).map(({ shape }) => shape),
      refused: [...refused, ...unpublished.map((candidate) => this.#notPublished(candidate, selected))],
      generations,
      columns: this.#columns.look(captured, catalog),
      idle: selected.idle,
      partlyLogged: partlyLogged(selected),
      besides: this.besides,
    };
  }

  /** Those of the tables that a stream has in other schemas. */
  async #saySchemas(catalog: Catalog, signal: AbortSignal): Promise<void> {
    const { marks, schemas } = this.#context;
    const present = new Map(catalog.tables.map((table) => [table.oid, table]));
    const others = new Set<CatalogTable>();
    for (const { commit, ofTables } of marks.announced) {
      for (const [oid, schema] of ofTables) {
        const table = present.get(oid);
        if (table === undefined || table.schema === schema || isIllegible(table, catalog)) continue;
        if (!schemas.isAhead(table, commit)) others.add(table);
      }
    }
    if (others.size > 0) await saySchemas(this.#context, [...others], this.onUnloggedRows, signal);
  }

  /** Of a tree the tables that are not published decide. */
  #notPublished({ table, shape: { id } }: Candidate, { publication, catalog }: Selected): RefusedTable {
    const all = carriersOf(table, catalog);
    const lacking = all.filter(({ oid }) => publication?.published.has(oid) !== true);
    const open = lacking.filter(({ oid }) => !this.#locked.has(oid));
    const locked = lacking.find(({ oid }) => this.#locked.has(oid));
    if (open.length > 0 || locked === undefined)
      return notPublished(this.#context, { id, lacking: open, all }, publication);
    return lockedNow(id, locked, this.#locked.get(locked.oid) ?? null);
  }

  async publish(onChange: (identity: LogIdentity) => Promise<void>, signal: AbortSignal): Promise<void> {
    using _ = await this.#turn.take(signal);
    const selected = await selectTables(this.#context, false, signal);
    const before = this.#identity;
    // Before the first comparison with the stored identity there is nothing to continue from, and nothing is removed.
    if (before !== undefined) checkPublicationHistory(this.#context, before, selected);
    const wanted = selected.carriers;
    const { locked } = await this.#sync(selected, wanted, signal);
    this.#locked = new Map(await Promise.all(locked.map((table, i) => this.#heldBy(table, i, signal))));
    if (before !== undefined) {
      const left = await this.#takeOut(leaving(selected.publication, wanted), before, onChange, signal);
      const now = await readPublication(this.#context, signal);
      const isOurs = selected.publication?.viaRoot === false && now?.viaRoot === true;
      const known = isOurs ? { ...left, publicationWritten: now.written } : left;
      // Compared again: a table that another role removed since the first look must not become part of the new state.
      const isShort = now !== undefined && lacksEntries(known, selected, now);
      const latest = isShort ? await selectTables(this.#context, false, signal) : { ...selected, publication: now };
      const checked = checkPublicationHistory(this.#context, known, latest);
      const { moved } = this.#generations;
      this.#identity = {
        ...this.#identity,
        ...publicationIdentity(checked),
        ...(hasMoved(left, moved) ? { [MOVED]: moved } : {}),
        ...(await this.#kept(left, signal)),
      };
      const isAnother = [MOVED, KEPT, ...PUBLICATION_PARTS].some((what) => this.#identity?.[what] !== left[what]);
      if (isAnother) await onChange(this.#identity);
    }
  }

  /** As far as two looks have seen it: the server shows a move a moment before it has stored it. It never goes back. */
  async #kept({ [KEPT]: kept }: LogIdentity, signal: AbortSignal): Promise<Partial<LogIdentity>> {
    const before = this.#restart;
    const slot = await readSlot(this.#context, signal);
    this.#restart = slot?.restart ?? null;
    if (before === null || this.#restart === null) return {};
    const now = before < this.#restart ? before : this.#restart;
    return kept !== undefined && parseLsn(kept) >= now ? {} : { [KEPT]: formatLsn(now) };
  }

  async #heldBy(
    { oid, schema, table }: CatalogTable,
    index: number,
    signal: AbortSignal,
  ): Promise<readonly [number, LockHolders | null]> {
    if (index >= ASKED_COUNT_MAX) return [oid, null];
    const { address } = await this.#context.writer.database(signal);
    return [oid, await lockHolders(address, holdersOf(quoteTable(schema, table), "published"), signal)];
  }

  /**
   * Removes tables from the publication that are no longer captured, such as one without a key. Invariant: the stored
   * identity forgets them first. Otherwise a crash in between would leave a table missing that may come back.
   */
  async #takeOut(
    oids: readonly number[],
    before: LogIdentity,
    onChange: (identity: LogIdentity) => Promise<void>,
    signal: AbortSignal,
  ): Promise<LogIdentity> {
    if (oids.length === 0) return before;
    const left = withoutEntries(before, oids);
    this.#identity = left;
    await onChange(left);
    failpoint("publication.leaving");
    await takeOut(this.#context, oids, signal);
    failpoint("publication.left");
    return left;
  }

  /** If the role may not add tables, those that are already published continue: see `tables`. */
  async #sync({ publication }: Selected, wanted: readonly CatalogTable[], signal: AbortSignal): Promise<Synced> {
    try {
      const possible = publication === undefined ? wanted : publishable(this.#context, publication, wanted);
      return await syncPublication(this.#context, publication, possible, signal);
    } catch (error) {
      if (reasonOf(error) !== "privilege") throw error;
      return { added: [], locked: [] };
    }
  }
}

/** The field of the identity that keeps what `Generations` knew in an earlier process. */
const MOVED = "movedFiles";

/** What changes while the daemon runs. */
function laterPart(identity: LogIdentity): LogIdentity {
  const { [KEPT]: kept, [LANDMARK]: landmark } = identity;
  return {
    ...publicationPart(identity),
    ...(kept === undefined ? {} : { [KEPT]: kept }),
    ...(landmark === undefined ? {} : { [LANDMARK]: landmark }),
  };
}

/** An empty list is stored only if a list was stored before. */
function hasMoved(before: LogIdentity, moved: string): boolean {
  return before[MOVED] !== undefined || moved !== NONE_MOVED;
}

const NONE_MOVED = "[]";

/** Of so many locked tables it is asked who holds them. */
const ASKED_COUNT_MAX = 8;

function lockedNow(id: string, table: CatalogTable, holders: LockHolders | null): RefusedTable {
  const unknown = `End that transaction, or wait for it: SELECT pid, mode FROM pg_locks WHERE relation = ${table.oid} AND granted;`;
  const locked = tableId(table.schema, table.table) === id ? "it" : quoteTable(table.schema, table.table);
  return {
    id,
    reason: `another session has locked ${locked}${holders === null ? "" : ` (${holders.what})`}; it is published as soon as that ends`,
    fix: holders?.fix ?? unknown,
    isPassing: true,
    code: "MR2026",
  };
}

interface Unpublished {
  readonly id: string;
  readonly lacking: readonly CatalogTable[];
  /** All that the publication has to carry for it. */
  readonly all: readonly CatalogTable[];
}

function notPublished(
  { publication }: SourceContext,
  { id, lacking, all }: Unpublished,
  current: Publication | undefined,
): RefusedTable {
  const why = current === undefined ? "the role may not make it" : addRefusal(current, lacking);
  const which = all.length === 1 ? "it" : lacking.map(({ schema, table }) => quoteTable(schema, table)).join(", ");
  return {
    id,
    reason: `${which} ${lacking.length > 1 ? "are" : "is"} not in the publication ${publication}: ${why}`,
    fix: addAdvice(publication, current, lacking),
    byPrivilege: true,
  };
}

/** The statement for each table whose old rows the log shows by their keys. */
function partlyLogged({ captured, catalog }: Selected): ReadonlyMap<string, string> {
  return new Map(
    captured.flatMap(({ table, shape }) => {
      const partly = carriersOf(table, catalog).filter(({ identity }) => identity !== FULL);
      return partly.length === 0 ? [] : [[shape.id, partly.map(fullIdentity).join(" ")]];
    }),
  );
}
