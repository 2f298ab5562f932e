/** Postgres as a source: composes the parts. */
import type { Block } from "../../../src/core/model/block.ts";
import type { Position } from "../../../src/core/model/position.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type {
  Blocker,
  CapturedTables,
  ChangeStream,
  Chunk,
  CreatedLog,
  CreateRequest,
  HeldPositions,
  KeyText,
  LogHealth,
  LogIdentity,
  MadeObject,
  RefusedTable,
  Source,
  StreamOptions,
  Visibility,
} from "../../../src/core/contracts/source.ts";
import { reasonOf } from "../../../src/core/errors.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import { LOSSES } from "./errors.ts";
import { hasBinaryForm } from "../../../src/core/model/types.ts";
import type { CatalogTable } from "./catalog/catalog.ts";
import { readKeys, readRange } from "./snapshot/chunks.ts";
import { SeenColumns } from "./catalog/column-facts.ts";
import { Turn } from "../../../src/core/turn.ts";
import type { SourceContext } from "./context.ts";
import { createLog, resumeLog } from "./start.ts";
import { Generations } from "./catalog/generations.ts";
import { readHealth } from "./log/health.ts";
import { formatLsn, parseLsn } from "./log/lsn.ts";
import { markPrefix, renewPrefix, writeMark } from "./log/marks.ts";
import {
  checkPublicationHistory,
  lacksEntries,
  PUBLICATION_PARTS,
  publicationIdentity,
  publicationPart,
  withoutEntries,
} from "./log/identity.ts";
import { addStatement, publishable, readPublication, waitForTransactions } from "./log/publication.ts";
import { leaving, type Synced, syncPublication, takeOut } from "./log/publish.ts";
import { recordPosition } from "./stream/record-position.ts";
import { type Candidate, selectTables, type Selected } from "./catalog/selection.ts";
import { ShownLeaves } from "./catalog/shown-leaves.ts";
import { readSlot, whenFree } from "./log/slot.ts";
import { PostgresStream } from "./stream/stream.ts";
import { madeBy, removeOurs } from "./log/teardown.ts";
import { readVisibility } from "./snapshot/visibility.ts";

export class PostgresSource implements Source {
  readonly kind = "postgres";
  readonly losses = LOSSES;
  readonly database: string;
  readonly markPrefix: string;
  readonly #context: SourceContext;
  /**
   * Who compares the publication with what is known of it, and who changes both, take turns: a table that is taken out meanwhile
   * would be missed at the next start.
   */
  readonly #publication = new Turn();
  /** The publication as it was last seen or made: less than that is a gap. */
  #published: LogIdentity | undefined;
  #generations = new Generations(undefined);
  readonly #columns = new SeenColumns();
  readonly #leaves = new ShownLeaves();
  /** Oids of tables that could not be published at the last attempt, as somebody has locked them. */
  #locked: ReadonlySet<number> = new Set();
  /** Of the first stream. */
  #onUnloggedRows: StreamOptions["onUnloggedRows"];

  constructor(context: SourceContext) {
    this.#context = context;
    this.database = context.address.database;
    this.markPrefix = markPrefix(context);
  }

  formatPosition(commit: bigint): string {
    return formatLsn(commit);
  }

  parsePosition(text: string): bigint {
    return parseLsn(text);
  }

  recordPosition(block: Block, row: number): bigint | undefined {
    return recordPosition(block, row);
  }

  async expectFree(identity: LogIdentity | null, signal: AbortSignal): Promise<void> {
    await whenFree(this.#context, identity === null ? "start" : "stream", signal);
  }

  async create(request: CreateRequest, signal: AbortSignal): Promise<CreatedLog> {
    const log = await createLog(this.#context, request, signal);
    this.#published = log.identity;
    return log;
  }

  async resume(identity: LogIdentity, held: HeldPositions, signal: AbortSignal): Promise<LogIdentity> {
    using _ = await this.#publication.take(signal);
    const { [MOVED]: moved, ...stored } = identity;
    // At a reconnect more is known than what was stored.
    const known = { ...stored, ...(this.#published === undefined ? {} : publicationPart(this.#published)) };
    const resumed = await resumeLog(this.#context, known, held, signal);
    if (this.#published === undefined) this.#generations = new Generations(moved);
    this.#published = moved === undefined ? resumed : { ...resumed, [MOVED]: moved };
    return this.#published;
  }

  async stream(from: Position, options: StreamOptions, signal: AbortSignal): Promise<ChangeStream> {
    const { captured } = await selectTables(this.#context, false, signal);
    // Binary cells are cheaper for the server, but have to be readable for every table that may come.
    const binary = captured.every(({ shape }) => shape.columns.every((column) => hasBinaryForm(column.type)));
    const identity = this.#published;
    if (!options.temporary) this.#onUnloggedRows = options.onUnloggedRows;
    const leaves = this.#leaves;
    const parts = { context: this.#context, database: this.database, identity, from, options, binary, leaves };
    return PostgresStream.open(parts, signal);
  }

  async tables(signal: AbortSignal): Promise<CapturedTables> {
    const { captured, refused, catalog, publication } = await selectTables(this.#context, false, signal);
    const generations = this.#generations.look(captured, catalog, publication);
    for (const id of this.#leaves.look(captured, catalog)) await this.#onUnloggedRows?.(id);
    const unpublished = captured.filter(({ shape }) => this.#published !== undefined && !generations.has(shape.id));
    return {
      tables: captured.filter((candidate) => !unpublished.includes(candidate)).map(({ shape }) => shape),
      refused: [...refused, ...unpublished.map((candidate) => this.#notPublished(candidate))],
      generations,
      columns: this.#columns.look(captured, catalog),
    };
  }

  #notPublished(candidate: Candidate): RefusedTable {
    return this.#locked.has(candidate.table.oid) ? lockedNow(candidate) : notPublished(this.#context, candidate);
  }

  async publish(onChange: (identity: LogIdentity) => Promise<void>, signal: AbortSignal): Promise<void> {
    using _ = await this.#publication.take(signal);
    const selected = await selectTables(this.#context, false, signal);
    const before = this.#published;
    // Before the first comparison with what is stored there is nothing to go on from, and nothing is taken out.
    if (before !== undefined) checkPublicationHistory(this.#context, before, selected);
    const wanted = selected.captured.map(({ table }) => table);
    const { locked } = await this.#sync(selected, wanted, signal);
    this.#locked = new Set(locked.map(({ oid }) => oid));
    if (before !== undefined) {
      const left = await this.#takeOut(leaving(selected.publication, wanted), before, onChange, signal);
      const now = await readPublication(this.#context, signal);
      const isOurs = selected.publication?.viaRoot === false && now?.viaRoot === true;
      const known = isOurs ? { ...left, publicationWritten: now.written } : left;
      // Once more: what somebody took out since the first look must not be taken for the state to go on from.
      const isShort = now !== undefined && lacksEntries(known, selected, now);
      const latest = isShort ? await selectTables(this.#context, false, signal) : { ...selected, publication: now };
      const checked = checkPublicationHistory(this.#context, known, latest);
      const { moved } = this.#generations;
      this.#published = {
        ...this.#published,
        ...publicationIdentity(checked),
        ...(hasMoved(left, moved) ? { [MOVED]: moved } : {}),
      };
      const isAnother = [MOVED, ...PUBLICATION_PARTS].some((what) => this.#published?.[what] !== left[what]);
      if (isAnother) await onChange(this.#published);
    }
  }

  /**
   * Takes tables out that are no longer captured, as one without a key. Invariant: they are out of what is stored before, or
   * a process that ends in between leaves a table missing that may come back.
   */
  async #takeOut(
    oids: readonly number[],
    before: LogIdentity,
    onChange: (identity: LogIdentity) => Promise<void>,
    signal: AbortSignal,
  ): Promise<LogIdentity> {
    if (oids.length === 0) return before;
    const left = withoutEntries(before, oids);
    this.#published = left;
    await onChange(left);
    failpoint("publication.leaving");
    await takeOut(this.#context, oids, signal);
    failpoint("publication.left");
    return left;
  }

  /** Where the role may not add tables, those that are published already go on: see `tables`. */
  async #sync({ publication }: Selected, wanted: readonly CatalogTable[], signal: AbortSignal): Promise<Synced> {
    try {
      const possible = publication === undefined ? wanted : publishable(publication, wanted);
      return await syncPublication(this.#context, publication, possible, signal);
    } catch (error) {
      if (reasonOf(error) !== "privilege") throw error;
      return { added: [], locked: [] };
    }
  }

  settle(onWait: (blocker: Blocker) => void, signal: AbortSignal): Promise<void> {
    return waitForTransactions(this.#context, onWait, signal);
  }

  visibility(signal: AbortSignal): Promise<Visibility> {
    return readVisibility(this.#context, signal);
  }

  async mark(content: string, signal: AbortSignal): Promise<void> {
    await writeMark(this.#context, this.markPrefix, content, signal);
  }

  readRange(
    table: TableVersion,
    after: KeyText | null,
    where: string | null,
    signal: AbortSignal,
    scanRowCountMax?: number,
  ): Promise<Chunk> {
    return readRange(this.#context, table, after, where, signal, scanRowCountMax);
  }

  readKeys(table: TableVersion, keys: readonly KeyText[], signal: AbortSignal): Promise<Chunk> {
    return readKeys(this.#context, table, keys, signal);
  }

  /** A message's own place: the log's end as such may lie behind a page header, where an idle stream never arrives. */
  tip(signal: AbortSignal): Promise<bigint> {
    return writeMark(this.#context, `${this.markPrefix}/tip`, "", signal);
  }

  renew(signal: AbortSignal): Promise<bigint> {
    return writeMark(this.#context, renewPrefix(this.#context), "", signal);
  }

  made(identity: LogIdentity | null, signal: AbortSignal): Promise<readonly MadeObject[]> {
    return madeBy(this.#context, identity, signal);
  }

  remove(identity: LogIdentity | null, signal: AbortSignal): Promise<void> {
    return removeOurs(this.#context, identity, signal);
  }

  /** The server moves a start below the slot's confirmed position forward to it without a word. */
  async earliest(signal: AbortSignal): Promise<bigint | null> {
    const slot = await readSlot(this.#context, signal);
    return slot === undefined || slot.invalidation !== null ? null : slot.confirmed;
  }

  health(signal: AbortSignal): Promise<LogHealth> {
    return readHealth(this.#context, signal);
  }

  async close(): Promise<void> {
    await this.#context.database.close();
  }
}

/** Where the identity keeps what `Generations` knows of an earlier process. */
const MOVED = "movedFiles";

/** The empty list is not stored where there never was another. */
function hasMoved(before: LogIdentity, moved: string): boolean {
  return before[MOVED] !== undefined || moved !== NONE_MOVED;
}

const NONE_MOVED = "[]";

function lockedNow({ table, shape }: Candidate): RefusedTable {
  return {
    id: shape.id,
    reason: "somebody has locked it; it is published as soon as that ends",
    fix: `End that transaction, or wait for it: SELECT pid, mode FROM pg_locks WHERE relation = ${table.oid} AND granted;`,
    isPassing: true,
  };
}

function notPublished({ publication }: SourceContext, { table, shape }: Candidate): RefusedTable {
  return {
    id: shape.id,
    reason: `it is not in the publication ${publication}, and the role may not add it`,
    fix: `${addStatement(publication, [table])};`,
    byPrivilege: true,
  };
}
