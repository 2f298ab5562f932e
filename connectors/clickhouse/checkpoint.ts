import { randomUUID } from "node:crypto";
import type { ClickHouseSettings } from "@clickhouse/client";
import { type Checkpoint, checkpointTexts, checkpointFromTexts } from "../../src/core/checkpoint.ts";
import { invariant } from "../../src/core/invariant.ts";
import { parsePosition, serializePosition } from "../../src/core/model/position.ts";
import { notHeld, takenOver } from "../kit/held-checkpoint.ts";
import type { Client } from "./client.ts";
import { current, DOUBT_MS_MAX, Reads } from "./current.ts";
import { clickhouseError, isGone, notShown } from "./errors.ts";
import { META_DATABASE, quoteIdentifier, quoteLiteral, sqlNameOf } from "./names.ts";
import { isReplicated } from "./tables/existing.ts";
import { engineOf, onCluster, tableSettings } from "./tables/statements.ts";
import type { Placement } from "./tables/layout.ts";

const NAME = { database: META_DATABASE, table: "progress" };
const TABLE = sqlNameOf(NAME);
/** How many of the last inserts a table without replicas remembers, so that it takes none twice. */
const TOKENS_KEPT = 1_000;

/** Refusals in a row, without another writer, after which a start is tried again later. */
const REFUSALS_MAX = 3;
/** Lists of tables that no checkpoint names any more are removed from time to time: each costs a mutation. */
const LISTS_MAX = 50;

interface Stored {
  /** Grows with each write: the highest is the sink's checkpoint. */
  readonly revision: bigint;
  /** The process that wrote it. */
  readonly writer: string;
  readonly lease: number;
  /** "" before the first checkpoint. */
  readonly position: string;
  /** The name of a list of tables; "": none. */
  readonly list: string;
  readonly bond: string;
}

/** A list of tables, as text. It never changes. */
interface List {
  readonly name: string;
  readonly text: string;
}

/** The checkpoints' table, as the server lists it. */
interface ThereTable {
  readonly engine: string;
  readonly sorted: string;
}

const NO_LIST: List = { name: "", text: "{}" };

/**
 * One sink's checkpoint in ClickHouse, and what this process knows about it. Its list of tables may be long and rarely
 * changes, so it is a row of its own, which the checkpoint names.
 */
export class CheckpointRow {
  readonly #client: Client;
  readonly #sink: string;
  readonly #placement: Placement;
  readonly #writer = randomUUID();
  #held: Stored | null = null;
  #tables: Checkpoint["tables"] = {};
  /** The last one that was read or written. */
  #list = NO_LIST;
  #listCount = 0;

  constructor(client: Client, sink: string, placement: Placement) {
    this.#client = client;
    this.#sink = sink;
    this.#placement = placement;
  }

  /** Stores our lease, unless a higher one is stored. */
  async takeOver(lease: number, signal: AbortSignal): Promise<Checkpoint | null> {
    const table = await this.#create(signal);
    let before: Stored | null | undefined;
    for (let refusals = 0; ;) {
      // A daemon's first start expects none.
      const isThere = (row: Stored | null): boolean => row !== null || lease === 1;
      const shown = await current(() => this.#read(signal), isThere, signal, DOUBT_MS_MAX);
      // Invariant: a row that only a slow replica does not show is not replaced. The server would take it: no token names it.
      const stored = shown ?? (await this.#read(signal, table));
      if (stored !== null && stored.lease > lease) throw takenOver(clickhouseError, stored.lease, lease);
      // Nobody wrote and yet the server refused: it remembers what followed this row before it was put back.
      refusals = before !== undefined && isSame(stored, before) ? refusals + 1 : 0;
      if (refusals > REFUSALS_MAX) throw notShown("the checkpoint that was written");
      before = stored;
      // Millrace writes more slowly, so this is above all that the server remembers of earlier rows.
      const soon = BigInt(Date.now()) * 1_000n;
      const { revision, ...held } = stored ?? { revision: soon, position: "", list: "", bond: "" };
      const next = { ...held, writer: this.#writer, lease, revision: revision >= soon ? revision + 1n : soon };
      const checkpoint = await this.#parsed(next, signal);
      if (!(await this.#put(next, `${revision} ${refusals}`, signal))) continue;
      await this.#countLists(signal);
      this.#tables = checkpoint?.tables ?? {};
      return checkpoint;
    }
  }

  /**
   * Null if nothing is stored; takes nothing over. This process may have written nothing yet, by which it could
   * recognise an old answer, so it asks where no row can be missing (`Reads`).
   */
  async look(signal: AbortSignal): Promise<Checkpoint | null> {
    const there = await current(
      () => this.#table(signal),
      (found) => found !== undefined,
      signal,
      DOUBT_MS_MAX,
    );
    const stored = await this.#read(signal, there);
    return stored === null ? null : await this.#parsed(stored, signal);
  }

  /** Whether the checkpoint that this process has read or written last calls the table complete. */
  holds(tableId: string): boolean {
    return this.#tables[tableId] !== undefined;
  }

  /** The fence: checks that the stored row is the one that this process wrote last. */
  async compare(signal: AbortSignal): Promise<void> {
    const held = this.#held;
    invariant(held !== null, "a sink is opened before it is used");
    const stored = await this.#readFrom(held.revision, signal);
    // A write of ours that got no answer may be stored by now.
    if (stored?.writer !== held.writer || stored.revision < held.revision)
      throw notHeld(clickhouseError, "ClickHouse", stored, held);
    this.#held = stored;
  }

  async write(checkpoint: Checkpoint, signal: AbortSignal): Promise<void> {
    const held = this.#held;
    invariant(held !== null, "a sink is opened before it is used");
    const { tables, bond } = checkpointTexts(checkpoint);
    const revision = held.revision + 1n;
    const list = await this.#listOf(tables, revision, signal);
    const next = { ...held, list, bond, position: serializePosition(checkpoint.position), revision };
    if (await this.#put(next, `${held.revision} 0`, signal)) {
      this.#tables = checkpoint.tables;
      return await this.#removeLists(signal);
    }
    const stored = await this.#read(signal);
    if (stored !== null && stored.lease > held.lease) throw takenOver(clickhouseError, stored.lease, held.lease);
    // Our own lease is no stranger's: what answers is behind.
    if (stored?.writer !== held.writer || stored.revision <= held.revision)
      throw notShown("the checkpoint that was written");
    // An earlier write of ours, which got no answer, came between.
    this.#held = stored;
    await this.write(checkpoint, signal);
  }

  /** Removes the rows up to the one that this process wrote last. The table stays: other sinks may begin to use it. */
  async remove(signal: AbortSignal): Promise<void> {
    await this.compare(signal);
    await this.#remove(`revision <= ${this.#held!.revision}`, signal);
  }

  /**
   * `after`: the revision before, and how often it was refused. False if it is refused: the server takes only the first
   * insert with one token, so of two writers one finds the other's row.
   */
  async #put(next: Stored, after: string, signal: AbortSignal): Promise<boolean> {
    const { revision, writer, lease, position, list, bond } = next;
    await this.#insert(["", revision, writer, lease, position, list, bond], signal, {
      insert_deduplicate: 1,
      insert_deduplication_token: `${this.#sink} after ${after}`,
    });
    const stored = await this.#readFrom(revision, signal);
    if (stored === null || !isEqual(stored, next)) return false;
    this.#held = next;
    return true;
  }

  async #insert(
    values: readonly (string | number | bigint)[],
    signal: AbortSignal,
    settings: ClickHouseSettings = {},
  ): Promise<void> {
    const literals = [this.#sink, ...values].map((value) => quoteLiteral(String(value))).join(", ");
    await this.#client.run(
      `INSERT INTO ${TABLE} (sink, list, revision, writer, lease, position, tables, bond) VALUES (${literals})`,
      signal,
      settings,
    );
  }

  /** The name of the list with this text. Invariant: it is stored before a checkpoint names it. */
  async #listOf(text: string, revision: bigint, signal: AbortSignal): Promise<string> {
    if (text === this.#list.text) return this.#list.name;
    const name = randomUUID();
    await this.#insert([name, revision, this.#writer, 0, "", text, ""], signal);
    this.#list = { name, text };
    this.#listCount++;
    return name;
  }

  /** Those from before the stored checkpoint, which is ours, that it does not name. */
  async #removeLists(signal: AbortSignal): Promise<void> {
    if (this.#listCount <= LISTS_MAX) return;
    const { list, revision } = this.#held!;
    await this.#remove(`list NOT IN ('', ${quoteLiteral(list)}) AND revision <= ${revision}`, signal);
    this.#listCount = 1;
  }

  async #countLists(signal: AbortSignal): Promise<void> {
    const sql = `SELECT count() FROM ${TABLE} WHERE sink = ${quoteLiteral(this.#sink)} AND list != ''`;
    this.#listCount = Number((await this.#client.rows(sql, signal))[0]?.[0] ?? 0);
  }

  async #remove(where: string, signal: AbortSignal): Promise<void> {
    const all = `sink = ${quoteLiteral(this.#sink)} AND ${where}`;
    await this.#client.run(`ALTER TABLE ${TABLE}${onCluster(this.#placement)} DELETE WHERE ${all}`, signal);
  }

  /** Waits for a row of this revision or a later one. */
  async #readFrom(revision: bigint, signal: AbortSignal): Promise<Stored | null> {
    const isThere = (stored: Stored | null): boolean => stored !== null && stored.revision >= revision;
    return await current(() => this.#read(signal), isThere, signal);
  }

  async #parsed({ position, list, bond }: Omit<Stored, "revision">, signal: AbortSignal): Promise<Checkpoint | null> {
    if (position === "") return null;
    if (list !== this.#list.name) this.#list = { name: list, text: await this.#textOf(list, signal) };
    return { position: parsePosition(position), ...checkpointFromTexts(this.#list.text, bond) };
  }

  async #textOf(list: string, signal: AbortSignal): Promise<string> {
    if (list === NO_LIST.name) return NO_LIST.text;
    const where = `sink = ${quoteLiteral(this.#sink)} AND list = ${quoteLiteral(list)}`;
    const read = () => this.#client.rows(`SELECT tables FROM ${TABLE} WHERE ${where} LIMIT 1`, signal);
    const [[text] = []] = await current(read, ({ length }) => length > 0, signal);
    if (text == null) throw notShown("the checkpoint that was written");
    return text;
  }

  /** `there`: the table, where the row is read so that it can't be missing. */
  async #read(signal: AbortSignal, there?: ThereTable): Promise<Stored | null> {
    const reads = new Reads(this.#client, { has: () => isReplicated(there?.engine) }, signal);
    const sql =
      `SELECT revision, writer, lease, position, tables, bond FROM ${TABLE} ` +
      `WHERE sink = ${quoteLiteral(this.#sink)} AND list = '' ORDER BY revision DESC LIMIT 1`;
    try {
      const [row] = await reads.rows(TABLE, sql);
      if (row === undefined) return null;
      const [revision, writer, lease, position, list, bond] = row.map((value) => value ?? "");
      return {
        revision: BigInt(revision!),
        writer: writer!,
        lease: Number(lease),
        position: position!,
        list: list!,
        bond: bond!,
      };
    } catch (error) {
      if (isGone(error) && there === undefined) return null;
      throw error;
    }
  }

  async #table(signal: AbortSignal): Promise<ThereTable | undefined> {
    const [row] = await this.#client.rows(
      `SELECT engine_full, sorting_key FROM system.tables WHERE database = ${quoteLiteral(NAME.database)} AND name = ${quoteLiteral(NAME.table)}`,
      signal,
    );
    return row === undefined ? undefined : { engine: row[0] ?? "", sorted: row[1] ?? "" };
  }

  async #create(signal: AbortSignal): Promise<ThereTable> {
    const on = onCluster(this.#placement);
    const hasReplicas = this.#placement.cluster !== undefined;
    const settings = tableSettings(this.#placement, {
      // Each batch makes a part: those that were merged go soon.
      old_parts_lifetime: 60,
      ...(hasReplicas ? {} : { non_replicated_deduplication_window: TOKENS_KEPT }),
    });
    const there = await this.#table(signal);
    if (there !== undefined) {
      expectOwn(there, hasReplicas);
      return there;
    }
    await this.#client.run(`CREATE DATABASE IF NOT EXISTS ${quoteIdentifier(NAME.database)}${on}`, signal);
    await this.#client.run(
      `CREATE TABLE IF NOT EXISTS ${TABLE}${on} (sink String, list String, revision UInt64, writer String, lease UInt64, ` +
        `position String, tables String, bond String) ENGINE = ${engineOf(this.#placement, ["revision"])} ` +
        `ORDER BY (sink, list)${settings}`,
      signal,
    );
    const made = await current(
      () => this.#table(signal),
      (found) => found !== undefined,
      signal,
    );
    if (made === undefined) throw notShown("the table of the checkpoints");
    return made;
  }
}

/** A table without these takes a checkpoint from two writers at once, or loses one. */
function expectOwn({ engine, sorted }: ThereTable, hasReplicas: boolean): void {
  const [, kind] = /^(Replicated|Shared)?ReplacingMergeTree\(.*\brevision\)/.exec(engine) ?? ["", null];
  const isKept = kind !== null && sorted === "sink, list";
  const hasTokens = kind !== undefined || engine.includes("non_replicated_deduplication_window = ");
  if (isKept && hasTokens && (kind !== undefined || !hasReplicas)) return;
  throw clickhouseError(
    "MR3107",
    "blocked",
    `${NAME.database}.${NAME.table}, which holds the sinks' checkpoints, was changed by somebody`,
    { hint: `Put it back as it was; or drop it while Millrace is stopped, and run \`millrace recover\`.` },
  );
}

function isSame(a: Stored | null, b: Stored | null): boolean {
  return a?.revision === b?.revision && a?.writer === b?.writer;
}

/** One process may have given a number to several writes, of which the server takes one. */
function isEqual(a: Stored, b: Stored): boolean {
  return isSame(a, b) && a.lease === b.lease && a.position === b.position && a.list === b.list && a.bond === b.bond;
}
