import { type Batch, tablesOf } from "../../src/core/model/batch.ts";
import type { Checkpoint } from "../../src/core/checkpoint.ts";
import type { Inspection } from "../../src/core/contracts/comparing.ts";
import { onlyGrows } from "../../src/core/targets/carrying.ts";
import type { MillraceError } from "../../src/core/errors.ts";
import { type Room, roomText } from "../../src/core/disk-room.ts";
import { failpoint } from "../../src/core/failpoint.ts";
import { invariant } from "../../src/core/invariant.ts";
import { type IndexNaming, indexOf, ownIndexOf } from "../../src/core/targets/names.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type {
  AllTargets,
  Outcome,
  Sink,
  TargetComparison,
  TargetEvolution,
  TargetHint,
  TargetPresence,
  TargetReaders,
  TargetRows,
} from "../../src/core/contracts/sink.ts";
import type { Logger } from "../../src/core/contracts/telemetry.ts";
import { groupsOf } from "../../src/core/each-of.ts";
import type { IndexOptions } from "./indices/found-index.ts";
import { highestVersion, holdsForeign, ownIndices, remembersDeleted } from "./foreign.ts";
import { classifyConnection, droppedError, isOfConnection, searchError } from "./errors.ts";
import { WriteFence } from "./fence.ts";
import { diskRoomsOf } from "./disks.ts";
import { type ClientSettings, SearchClient, serversOf } from "./http.ts";
import { TableIndices } from "./indices/indices.ts";
import { ElasticsearchInspection } from "./inspect.ts";
import { StoredCheckpoint } from "./checkpoint.ts";
import { expectWhole } from "./indices/presence.ts";
import { ReportFailure } from "../kit/skipped-rows.ts";
import { removeUpTo } from "./write/removal.ts";
import { BodyPool, RowsBatch } from "./write/rows.ts";
import { type IndexIdentity, type PreparedIndex, type SearchTable, searchTable } from "./indices/tables.ts";
import { HeldClient } from "../kit/held-client.ts";
import { expectAlone, leave, OPENED } from "./one-cluster.ts";
import { expectUsable, versionOf } from "./version.ts";

export interface ElasticsearchSinkSettings extends ClientSettings, IndexOptions, IndexNaming {
  /** Names the checkpoint. */
  readonly daemon: string;
  readonly name: string;
}

/** Names in the path of one request: the engines take 4 KiB. */
const SHOWN_AT_ONCE = 12;

/** Since the sink was opened. */
interface Opened {
  readonly checkpoint: StoredCheckpoint;
  readonly indices: TableIndices;
  readonly fence: WriteFence;
}

/** A table version whose index takes its rows, and how they are written under the index's present alias. */
interface Prepared extends PreparedIndex {
  readonly table: TableVersion;
  readonly target: SearchTable | null;
}

/**
 * Rows as documents of Elasticsearch or OpenSearch; see README.md for its guarantees. Not a transactional sink: first
 * rows become durable, then the checkpoint document, and versions make a repetition harmless.
 */
export class ElasticsearchSink
  implements Sink, TargetPresence, TargetRows, TargetEvolution, TargetComparison, TargetReaders
{
  readonly kind = "elasticsearch";
  readonly form = "mirror";
  readonly delivery = "idempotent";
  readonly presence = this;
  readonly rows = this;
  readonly evolution = this;
  readonly comparison = this;
  readonly readers = this;
  readonly onLost = "resync";
  readonly scopedBy = "keys";
  readonly name: string;
  readonly #settings: ElasticsearchSinkSettings;
  readonly #log: Logger;
  readonly #bodies = new BodyPool();
  /** By table id: the latest version that is ready to be written. */
  readonly #prepared = new Map<string, Prepared>();
  /** By table id: the fingerprint of the version whose index is as the configuration wants it, which does not change. */
  readonly #seen = new Map<string, string>();
  /** Ids of tables whose index had lost a shard: the sink checks it before it waits for it again. */
  readonly #partial = new Set<string>();
  readonly #client = new HeldClient((signal) => SearchClient.open(this.#settings, signal));
  #opened: Opened | null = null;
  #isRefused = false;

  constructor(settings: ElasticsearchSinkSettings, log: Logger) {
    this.name = settings.name;
    this.#settings = settings;
    this.#log = log;
  }

  get hints(): readonly TargetHint[] {
    return this.#opened?.indices.hints ?? [];
  }

  /** The alias of the documents of all tables that routes merge. */
  target(table: TableVersion): string {
    return indexOf(this.#settings, table);
  }

  #alias(table: TableVersion): string {
    return ownIndexOf(this.#settings, table);
  }

  async open(lease: number, signal: AbortSignal): Promise<Checkpoint | null> {
    // The reason for the refusal may be fixed by now, also in TLS files.
    if (this.#isRefused) await this.#client.disconnect();
    this.#isRefused = false;
    return this.#guarded(signal, async (client) => {
      expectUsable(await versionOf(client, signal));
      const checkpoint = this.#stored(client);
      const fence = new WriteFence(client, this.#settings.prefix, [this.#settings.daemon, this.name]);
      const indices = new TableIndices(client, this.#settings, fence, checkpoint, this.#log);
      const held = await checkpoint.takeOver(lease, (content) => indices.revise(content, signal), signal);
      await expectAlone(client, OPENED, this.#settings, signal);
      this.#opened = { checkpoint, indices, fence };
      return held;
    });
  }

  async look(signal: AbortSignal): Promise<Checkpoint | null> {
    return this.#guarded(signal, async (client) => await this.#stored(client).look(signal));
  }

  #stored(client: SearchClient): StoredCheckpoint {
    const { prefix, daemon, name, replicas } = this.#settings;
    return new StoredCheckpoint(client, prefix, `${daemon}.${name}`, replicas);
  }

  /** A table whose index the configuration wants otherwise is read into the next one. */
  async missing(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly TableVersion[]> {
    const { indices } = this.#ours;
    const there = tables.filter(({ id }) => indices.holds(id));
    const unseen = there.filter(({ id, fingerprint }) => this.#seen.get(id) !== fingerprint);
    const outdated = await this.#guarded(signal, () => indices.outdated(unseen, signal));
    for (const { id, fingerprint } of unseen) if (!outdated.has(id)) this.#seen.set(id, fingerprint);
    return tables.filter(({ id }) => !indices.holds(id) || outdated.has(id));
  }

  async prepare(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    const { indices } = this.#ours;
    await this.#guarded(signal, async (client) => {
      for (const table of tables) {
        const written = indices.written(table.id);
        if (written !== undefined && this.#partial.has(table.id)) await expectWhole(client, written, table, signal);
        this.#partial.delete(table.id);
      }
      const wanted = tables.map((table) => ({
        table,
        alias: this.#alias(table),
        shared: table.scope === undefined ? undefined : this.target(table),
      }));
      const prepared = await indices.prepare(wanted, signal);
      for (const [i, table] of tables.entries()) this.#prepared.set(table.id, { ...prepared[i]!, table, target: null });
    });
  }

  /** A document keeps its named fields until it is written. */
  async carries(from: TableVersion, to: TableVersion, signal: AbortSignal): Promise<boolean> {
    if (!onlyGrows(from, to)) return false;
    return await this.#guarded(signal, () => this.#ours.indices.takes(this.#alias(to), to, signal));
  }

  async apply(batch: Batch, outcome: Outcome, signal: AbortSignal): Promise<void> {
    await this.#guarded(signal, async (client) => {
      await this.#ours.checkpoint.compare(signal);
      const targets = await this.#enter(tablesOf(batch), signal);
      await this.#applyBatch(client, batch, targets, outcome, signal);
      if (batch.kind !== "checkpoint") failpoint("elasticsearch.rows-written");
      const { checkpoint } = batch;
      const moved = await this.#ours.indices.complete(checkpoint.tables, signal);
      await this.#ours.checkpoint.write({ checkpoint, indices: moved }, signal);
      this.#ours.indices.adopt(moved);
    });
  }

  async #applyBatch(
    client: SearchClient,
    batch: Batch,
    targets: readonly SearchTable[],
    outcome: Outcome,
    signal: AbortSignal,
  ): Promise<void> {
    switch (batch.kind) {
      case "checkpoint":
        return;
      case "rows":
        return new RowsBatch(client, this.#bodies, batch.tables, targets, signal).write(outcome);
      case "truncate":
        return removeUpTo(client, targets[0]!, batch.version, signal);
      case "sweep":
        for (const [i, { below }] of batch.sweeps.entries()) await removeUpTo(client, targets[i]!, below - 1n, signal);
        return;
      default:
        return batch satisfies never;
    }
  }

  /**
   * The engine remembers a deleted document's version for an hour, so deleting a too new document does not make room
   * for an older one. Therefore this drops the whole index, and `prepare` creates another. What was deleted before is
   * forgotten.
   */
  async expel(tables: readonly TableVersion[], version: bigint, signal: AbortSignal): Promise<void> {
    await this.#guarded(signal, async (client) => {
      await this.#ours.checkpoint.compare(signal);
      for (const { id } of tables) {
        const written = this.#ours.indices.written(id);
        if (written === undefined) continue;
        const isForeign = await holdsForeign(client, written, version, signal);
        if (!isForeign && !(await this.#remembersDeleted(client, written, signal))) continue;
        const why = isForeign ? "holds documents that Millrace did not write" : "does not forget deleted documents";
        this.#log.warn({ table: id }, `the index ${why}: it is created again`);
        await this.#ours.indices.remove(id, signal);
        this.#prepared.delete(id);
      }
    });
  }

  async #remembersDeleted(client: SearchClient, written: IndexIdentity, signal: AbortSignal): Promise<boolean> {
    const { fence, checkpoint } = this.#ours;
    const { aliases, areNew } = await fence.enter([written], signal);
    if (areNew) await checkpoint.compare(signal);
    return await remembersDeleted(client, written, aliases[0]!, signal);
  }

  async highestVersion(tables: readonly TableVersion[] | AllTargets, signal: AbortSignal): Promise<bigint> {
    return await this.#guarded(signal, async (client) => {
      const areNamed = typeof tables !== "string";
      const names = areNamed
        ? tables.map((table) => this.#alias(table))
        : await ownIndices(client, this.#settings, signal);
      return await highestVersion(client, names, signal);
    });
  }

  async forget(signal: AbortSignal): Promise<void> {
    await this.#guarded(signal, async () => {
      await this.#ours.fence.leave(this.#ours.indices.all(), signal);
      await this.#ours.checkpoint.remove(signal);
    });
  }

  async verify(signal: AbortSignal): Promise<void> {
    await this.#guarded(signal, async () => {
      await this.#ours.checkpoint.compare(signal);
      await this.#ours.indices.expectPresent(signal);
    });
  }

  async show(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    const { indices } = this.#ours;
    const aliases = tables.flatMap(({ id }) => indices.written(id)?.alias ?? []);
    await this.#guarded(signal, async (client) => {
      for (const some of groupsOf(aliases, SHOWN_AT_ONCE)) await client.refresh(some, undefined, signal);
    });
  }

  async rooms(signal: AbortSignal): Promise<readonly Room[]> {
    const client = this.#client.current;
    return client === null ? [] : await diskRoomsOf(client, signal);
  }

  async inspect(signal: AbortSignal): Promise<Inspection> {
    return new ElasticsearchInspection(await SearchClient.open(this.#settings, signal), (table) => this.#alias(table));
  }

  async close(): Promise<void> {
    leave(this.#settings);
    await this.#client.close();
  }

  async #guarded<T>(signal: AbortSignal, work: (client: SearchClient) => Promise<T>): Promise<T> {
    if (this.#client.isClosed) throw searchError("MR2029", "aborted", "the sink is closed");
    try {
      signal.throwIfAborted();
      return await work(await this.#client.connected(signal));
    } catch (error) {
      if (error instanceof ReportFailure) throw error.cause;
      // A defect is no fault of the network, and would be repeated for ever.
      if (!signal.aborted && !isOfConnection(error)) throw error;
      const known = await this.#withRoom(classifyConnection(error, signal, serversOf(this.#settings.urls)), signal);
      this.#isRefused = known.kind === "blocked" && known.table === undefined;
      if (known.table !== undefined && known.reason === "partial") this.#partial.add(known.table);
      throw known;
    }
  }

  /** A block of all indices is that of a full disk: which one, and what is left there. */
  async #withRoom(known: MillraceError, signal: AbortSignal): Promise<MillraceError> {
    if (known.code !== "MR3310" || known.table !== undefined || this.#client.current === null) return known;
    const room = roomText(await this.rooms(signal).catch(() => []));
    return room === "" ? known : known.with({ message: `${known.message}; the disks have: ${room}` });
  }

  get #ours(): Opened {
    invariant(this.#opened !== null, "a sink is opened before it is used");
    return this.#opened;
  }

  /** From here on nothing is written to these tables' indices that this process has given up, or another one. */
  async #enter(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly SearchTable[]> {
    const indices = tables.map((table) => this.#written(table));
    const { aliases, areNew } = await this.#ours.fence.enter(indices, signal);
    // Another process that has taken the sink over enters its indices after its lease is stored: either we see the lease
    // here, or our alias is gone before it writes.
    if (areNew) await this.#ours.checkpoint.compare(signal);
    return tables.map((table, i) => this.#target(table, aliases[i]!));
  }

  #written({ id }: TableVersion): IndexIdentity {
    const prepared = this.#prepared.get(id);
    const written = this.#ours.indices.written(id);
    if (written === undefined || written.uuid !== prepared?.index.uuid) throw droppedError(written?.alias ?? id);
    return written;
  }

  #target(table: TableVersion, alias: string): SearchTable {
    const prepared = this.#prepared.get(table.id);
    invariant(prepared?.table === table, "a table version is prepared before its first row");
    if (prepared.target?.alias === alias) return prepared.target;
    const target = searchTable(table, prepared.note, alias);
    this.#prepared.set(table.id, { ...prepared, target });
    return target;
  }
}
