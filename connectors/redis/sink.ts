import type { Batch } from "../../src/core/model/batch.ts";
import { type Checkpoint, checkpointTexts } from "../../src/core/checkpoint.ts";
import type { Inspection } from "../../src/core/contracts/comparing.ts";
import { onlyGrows } from "../../src/core/targets/carrying.ts";
import type { Room } from "../../src/core/disk-room.ts";
import { invariant } from "../../src/core/invariant.ts";
import { serializePosition } from "../../src/core/model/position.ts";
import type { TableName } from "../../src/core/contracts/connector.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type {
  AllTargets,
  ForeignTarget,
  Outcome,
  Sink,
  TargetComparison,
  TargetEvolution,
  TargetPresence,
  TargetRows,
} from "../../src/core/contracts/sink.ts";
import type { Logger } from "../../src/core/contracts/telemetry.ts";
import { CallPool, CallStream } from "./write/call-stream.ts";
import { ReportFailure } from "../kit/skipped-rows.ts";
import { versionSince } from "../../src/core/targets/base-rows.ts";
import { Connection, type ConnectionSettings, parseUrl, serverOf } from "./connection.ts";
import { classify, type ClientLimit, crowdedAt, redisError, replyCode, unsavedIn } from "./errors.ts";
import { expel, highestVersion } from "./foreign.ts";
import { RedisInspection } from "./inspect.ts";
import { evictionIn, memoryOf, roomIn, withFacts } from "./memory.ts";
import { checkpointKey, TombstoneKeys } from "./keys.ts";
import {
  fenceError,
  isOfOtherKind,
  isSameStep,
  NONE,
  parseCheckpoint,
  readCheckpoint,
  type Step,
  stepText,
  type StoredCheckpoint,
} from "./checkpoint.ts";
import { Claim, FenceKeys, FenceMismatch } from "./write/fence.ts";
import { KeyStarts } from "./write/key-pages.ts";
import { findPacking, type Packing } from "./write/packed-row.ts";
import { type Removal, removeUpTo } from "./write/removal.ts";
import { RowsBatch } from "./write/rows.ts";
import { ACTION } from "./write/script.ts";
import type { CheckpointToStore } from "./write/script-call.ts";
import { Owners } from "./owners.ts";
import { followShape, type Format, type KeyNaming, tableKeyStart, TableTarget } from "./write/table-target.ts";

export interface RedisSinkSettings extends ConnectionSettings, KeyNaming {
  readonly name: string;
  readonly daemon: string;
  readonly format: Format;
  /** How many replicas must have a batch before it counts as durable. */
  readonly waitReplicas: number;
}

interface Attempt {
  readonly batch: Batch;
  readonly checkpoint: CheckpointToStore;
  readonly outcome: Outcome;
  readonly signal: AbortSignal;
}

/** How often `apply` starts a batch again by itself: after a lost answer, and after the server lost the script. */
const ATTEMPTS_MAX = 3;
const WAIT_MS = "10000";

/**
 * Rows as keys of a Redis or Valkey server or cluster; see README.md for its guarantees. Not a transactional sink,
 * although on a single server each call changes rows, fence and checkpoint atomically.
 */
export class RedisSink implements Sink, TargetPresence, TargetRows, TargetEvolution, TargetComparison {
  readonly kind = "redis";
  readonly form = "mirror";
  readonly delivery = "idempotent";
  readonly presence = this;
  readonly rows = this;
  readonly evolution = this;
  readonly comparison = this;
  readonly onLost = "resync";
  readonly scopedBy = "names";
  readonly name: string;
  hints: Sink["hints"] & {} = [];
  readonly #settings: RedisSinkSettings;
  readonly #log: Logger;
  readonly #checkpointKey: Buffer;
  readonly #fenceKeys: FenceKeys;
  readonly #owners: Owners;
  readonly #tombstones: TombstoneKeys;
  readonly #pool: CallPool;
  readonly #targets = new WeakMap<TableVersion, TableTarget>();
  #connection: Connection | null = null;
  #lease = "";
  /** Null: another connection may be the one that writes. */
  #claim: Claim | null = null;
  /** The claim under which the owners of the tables were compared. */
  #ownedUnder: Claim | null = null;
  /** The last one that this process stored or found; the script compares it. */
  #step: Step = NONE;
  /** The stored checkpoint belongs to rows in the other format. */
  #isOtherFormat = false;
  /** Of a batch whose answer was lost: it may or may not be stored. */
  #inDoubt: Step | null = null;
  /** The text of the complete tables, if the server certainly has it. */
  #storedTables: string | null = null;
  #isClosed = false;
  /** As the server told it last: one that takes no client can't be asked. */
  #clientsMax: string | null = null;
  #saveFolder: string | null = null;
  /** How rows can be packed on the present server. */
  #packing: Packing | null = null;

  constructor(settings: RedisSinkSettings, log: Logger) {
    this.name = settings.name;
    this.#log = log;
    this.#settings = settings;
    const { prefix, daemon, name } = settings;
    const owner = `${daemon}/${name}`;
    this.#fenceKeys = this.#fenceOf(prefix, owner);
    this.#checkpointKey = this.#fenceKeys.checkpointKey;
    this.#owners = new Owners(prefix, owner, (table) => tableKeyStart(settings, table));
    this.#tombstones = new TombstoneKeys(settings.prefix);
    this.#pool = new CallPool(this.#tombstones);
  }

  target(table: TableName): string {
    return tableKeyStart(this.#settings, table);
  }

  async open(lease: number, signal: AbortSignal): Promise<Checkpoint | null> {
    this.#lease = String(lease);
    this.#inDoubt = null;
    this.#storedTables = null;
    return this.#guarded(signal, async (connection) => {
      this.#claim = await Claim.take(connection, this.#fenceKeys, this.#lease, signal);
      const stored = await readCheckpoint(connection, this.#checkpointKey);
      this.#step = stored;
      this.#packing = this.#settings.format === "hash" ? await findPacking(connection, this.#checkpointKey) : null;
      await this.#look(connection);
      this.#isOtherFormat = stored.format !== "" && stored.format !== this.#settings.format;
      if (this.#isOtherFormat) {
        this.#log.warn(
          { was: stored.format, is: this.#settings.format },
          "the format of rows changed: all rows are read again",
        );
      }
      // Invariant 3: a step whose wait failed is stored. The claim is written to each server that has rows, and after them.
      if (stored.position !== "") await waitForReplicas(connection, this.#settings.waitReplicas);
      return parseCheckpoint(stored, this.#settings.format, this.#checkpointKey);
    });
  }

  async look(signal: AbortSignal): Promise<Checkpoint | null> {
    const { format } = this.#settings;
    return this.#guarded(signal, async (connection) =>
      parseCheckpoint(await readCheckpoint(connection, this.#checkpointKey), format, this.#checkpointKey),
    );
  }

  /** Readers do not find rows in another format. The sink can't detect evicted or manually removed rows. */
  async missing(tables: readonly TableVersion[]): Promise<readonly TableVersion[]> {
    return this.#isOtherFormat ? tables : [];
  }

  async foreign(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly ForeignTarget[]> {
    return await this.#guarded(signal, (connection) => this.#owners.foreign(connection, tables));
  }

  /** Keys need no preparation; notes which values rows of another shape may supply. */
  async prepare(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    await this.#guarded(signal, async (connection) => {
      const since = versionSince(this.#step.position);
      const { format } = this.#settings;
      await this.#owners.expectApart(connection, tables, true);
      for (const table of tables) {
        const shape = await this.#fenced(connection, signal, async (claim) => {
          const followed = await followShape(connection, this.#checkpointKey, claim.name, table, since);
          if (followed === null) throw new FenceMismatch("another claim is stored");
          return followed;
        });
        this.#targets.set(table, new TableTarget(this.#settings, format, table, shape));
      }
      const formers = await this.#owners.take(connection, tables);
      // If both looked before either had entered itself, the table without a scope keeps the name, and the other one is refused here.
      await this.#owners.expectApart(connection, tables);
      for (const { prefix, name } of formers) await Claim.displace(connection, this.#fenceOf(prefix, name), signal);
    });
  }

  /** Of a sink `<daemon>/<sink>`. */
  #fenceOf(prefix: string, owner: string): FenceKeys {
    const [daemon = "", name = ""] = owner.split("/");
    const key = Buffer.from(checkpointKey(prefix, daemon, name));
    return new FenceKeys(prefix, `${daemon}.${name}`, key, this.#settings.cluster);
  }

  /** A row keeps its named fields until it is written. */
  async carries(from: TableVersion, to: TableVersion): Promise<boolean> {
    // A row in JSON names all columns, even those that are null.
    if (this.#settings.format === "json" && to.columns.length > from.columns.length) return false;
    return onlyGrows(from, to);
  }

  async apply(batch: Batch, outcome: Outcome, signal: AbortSignal): Promise<void> {
    const position = serializePosition(batch.checkpoint.position);
    const { tables, bond } = checkpointTexts(batch.checkpoint);
    const changed = tables === this.#storedTables ? "" : tables;
    const checkpoint = { position, bond, format: this.#settings.format, tables: changed };
    this.#storedTables = null;
    await this.#guarded(signal, async (connection) => {
      await this.#fenced(connection, signal, async (claim) => {
        if (batch.kind !== "checkpoint") await this.#expectOwned(connection, claim);
        await this.#attempt(connection, claim, { batch, checkpoint, outcome, signal });
      });
      this.#storedTables = tables;
    });
  }

  /** Who takes over a table displaces the claim under which its former owner writes. */
  async #expectOwned(connection: Connection, claim: Claim): Promise<void> {
    if (claim === this.#ownedUnder) return;
    await this.#owners.compare(connection);
    this.#ownedUnder = claim;
  }

  async #attempt(connection: Connection, claim: Claim, { batch, checkpoint, outcome, signal }: Attempt): Promise<void> {
    // Calls for rows of a cluster can't compare the last step.
    if (connection.isCluster) this.#compare(await readCheckpoint(connection, this.#checkpointKey));
    const stream = new CallStream(connection, this.#pool, claim, stepText(this.#step));
    try {
      await this.#send(connection, stream, batch, signal);
      this.#inDoubt = checkpoint;
      await stream.finish(checkpoint, outcome);
      await waitForReplicas(connection, this.#settings.waitReplicas);
    } catch (error) {
      await stream.drain();
      throw error;
    }
    this.#step = checkpoint;
    this.#inDoubt = null;
  }

  async #send(connection: Connection, stream: CallStream, batch: Batch, signal: AbortSignal): Promise<void> {
    switch (batch.kind) {
      case "checkpoint":
        return;
      case "rows":
        return new RowsBatch({
          connection,
          stream,
          format: this.#settings.format,
          tables: batch.tables,
          target: (table) => this.#prepared(table),
          packing: this.#packing,
        }).send(signal);
      case "truncate":
        return removeUpTo(connection, stream, [this.#removal(batch.table, ACTION.removeHeld, batch.version)], signal);
      case "sweep":
        return removeUpTo(
          connection,
          stream,
          batch.sweeps.map(({ table, below }) => this.#removal(table, ACTION.sweep, below - 1n)),
          signal,
        );
      default:
        return batch satisfies never;
    }
  }

  /** In one pass over all keys under the prefix, where other sinks may have theirs. */
  async highestVersion(tables: readonly TableVersion[] | AllTargets, signal: AbortSignal): Promise<bigint> {
    const { prefix } = this.#settings;
    return await this.#guarded(signal, async (connection) => {
      const areNamed = typeof tables !== "string";
      const others = tables === "own" ? await this.#owners.others(connection) : [];
      const known = areNamed ? tables.map((table) => this.target(table)) : others;
      const starts = new KeyStarts(known.map((keyStart) => ({ keyStart, keyWidths: [] })));
      const isCounted = (row: Buffer): boolean => starts.begins(row) === areNamed;
      return await highestVersion(connection, prefix, { tombstones: this.#tombstones, isCounted }, signal);
    });
  }

  async forget(signal: AbortSignal): Promise<void> {
    await this.#guarded(signal, async (connection) => {
      await this.#fenced(connection, signal, async (claim) => await claim.forget());
      await this.#owners.forget(connection);
    });
  }

  async expel(tables: readonly TableVersion[], version: bigint, signal: AbortSignal): Promise<void> {
    const unknown = tables.filter((table) => !this.#targets.has(table));
    await this.prepare(unknown, signal);
    await this.#guarded(signal, async (connection) => {
      await this.#fenced(connection, signal, async (claim) => {
        this.#compare(await readCheckpoint(connection, this.#checkpointKey));
        // Who takes one over from here on displaces the claim.
        const own = await this.#owners.ownOf(connection, tables);
        const targets = own.map((table) => this.#prepared(table));
        await expel(connection, targets, { claim, tombstones: this.#tombstones, version }, signal);
      });
      await this.#owners.expelled(connection, tables);
    });
  }

  /** Work whose calls name this connection's claim. */
  async #fenced<T>(connection: Connection, signal: AbortSignal, work: (claim: Claim) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        if (this.#claim === null) {
          this.#compare(await readCheckpoint(connection, this.#checkpointKey));
          this.#claim = await Claim.take(connection, this.#fenceKeys, this.#lease, signal);
        }
        return await work(this.#claim);
      } catch (error) {
        if (attempt === ATTEMPTS_MAX || !(await this.#isCured(connection, error))) throw error;
      }
    }
  }

  /**
   * Whether the work can start again at once: the server had lost the script, an answer was lost, or a fence (evicted,
   * displaced by a claim that came late).
   */
  async #isCured(connection: Connection, error: unknown): Promise<boolean> {
    if (error instanceof FenceMismatch) {
      this.#compare(await readCheckpoint(connection, this.#checkpointKey));
      this.#claim = null;
      return true;
    }
    if (error instanceof Error && replyCode(error.message) === "NOSCRIPT") {
      await connection.loadScripts();
      return true;
    }
    return false;
  }

  /** Accepts the stored checkpoint if this process wrote it; otherwise the sink must not continue. */
  #compare(stored: StoredCheckpoint): void {
    const isOurs = isSameStep(stored, this.#step) || (this.#inDoubt !== null && isSameStep(stored, this.#inDoubt));
    if (stored.lease !== this.#lease || !isOurs) throw fenceError(stored, this.#lease, this.#step);
    this.#step = stored;
  }

  async verify(signal: AbortSignal): Promise<void> {
    await this.#guarded(signal, async (connection) => {
      this.#compare(await readCheckpoint(connection, this.#checkpointKey));
      await this.#owners.compare(connection);
      await this.#look(connection);
    });
  }

  /** Rows that the server evicts leave no trace: what it may do is told. */
  async #look(connection: Connection): Promise<void> {
    const memories = await Promise.all(connection.primaries().map(memoryOf));
    const evictions = memories.flatMap((memory) => evictionIn(memory) ?? []);
    this.hints = evictions.slice(0, 1).map((eviction) => ({ table: null, ...eviction }));
  }

  async rooms(): Promise<readonly Room[]> {
    if (this.#connection?.isUp !== true) return [];
    const memories = await Promise.all(this.#connection.primaries().map(memoryOf));
    return memories.flatMap((memory) => roomIn(memory, serverOf(this.#settings.url)) ?? []);
  }

  async inspect(): Promise<Inspection> {
    return new RedisInspection(this.#settings);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#drop();
  }

  /** Runs work on a live connection; after a failure the connection is closed. */
  async #guarded<T>(signal: AbortSignal, work: (connection: Connection) => Promise<T>): Promise<T> {
    if (this.#isClosed) throw redisError("MR2029", "aborted", "the sink is closed");
    const stop = (): void => void this.#drop();
    let limits: readonly ClientLimit[] = [];
    try {
      signal.throwIfAborted();
      if (this.#connection?.isUp !== true) {
        await this.#drop();
        this.#connection = await Connection.open(this.#settings, signal);
      }
      limits = this.#connection.clientLimits;
      this.#clientsMax = this.#connection.clientsMax;
      this.#saveFolder = this.#connection.saveFolder;
      signal.addEventListener("abort", stop);
      return await this.#attributed(this.#connection, work);
    } catch (error) {
      await this.#drop();
      if (error instanceof ReportFailure) throw error.cause;
      const { url, cluster } = this.#settings;
      const known = crowdedAt(this.#clientsMax, classify(error, signal, serverOf(url), limits));
      // A cluster's other nodes may be on other machines.
      throw unsavedIn(this.#saveFolder, cluster ? "" : parseUrl(url).host, known);
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }

  /** If a key of another kind is met, the checkpoint key tells whether it is that one. */
  async #attributed<T>(connection: Connection, work: (connection: Connection) => Promise<T>): Promise<T> {
    try {
      return await work(connection);
    } catch (error) {
      if (isOfOtherKind(error)) await readCheckpoint(connection, this.#checkpointKey);
      throw await withFacts(connection, error, serverOf(this.#settings.url));
    }
  }

  async #drop(): Promise<void> {
    const connection = this.#connection;
    this.#connection = null;
    this.#claim = null;
    await connection?.[Symbol.asyncDispose]();
  }

  #removal(table: TableVersion, action: number, version: bigint): Removal {
    const { keyStart, keyWidths } = this.#prepared(table);
    return { keyStart, keyWidths, action, version };
  }

  #prepared(table: TableVersion): TableTarget {
    const target = this.#targets.get(table);
    invariant(target !== undefined, "a table version is prepared before its first row");
    return target;
  }
}

/** Returns when that many replicas have this connection's writes; in a cluster it asks each primary. */
async function waitForReplicas(connection: Connection, count: number): Promise<void> {
  if (count === 0) return;
  for (const primary of connection.primaries()) {
    const reached = await primary.command("wait", String(count), WAIT_MS);
    if (typeof reached !== "number" || reached < count) {
      throw redisError("MR2006", "retryable", `fewer than ${count} replicas confirmed the batch`);
    }
  }
}
