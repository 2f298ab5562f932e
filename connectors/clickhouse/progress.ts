import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { SinkProgress } from "../../src/core/model/batch.ts";
import { checkpointTexts, parseCheckpoint } from "../../src/core/checkpoint/checkpoint-text.ts";
import type { MillraceError } from "../../src/core/errors.ts";
import { invariant } from "../../src/core/invariant.ts";
import { comparePositions, parsePosition, serializePosition } from "../../src/core/model/position.ts";
import type { Client } from "./client.ts";
import { clickhouseError, isGone } from "./errors.ts";
import { META_DATABASE, quoteIdentifier, quoteLiteral, sqlNameOf } from "./names.ts";
import type { Placement } from "./tables/form.ts";
import { engineOf, onCluster, tableSettings } from "./tables/statements.ts";

const NAME = { database: META_DATABASE, table: "progress" };
const TABLE = sqlNameOf(NAME);
/** How many of the last inserts a table without replicas remembers, so that it takes none twice. */
const TOKENS_KEPT = 1_000;

/** A replica may answer that has not received a row yet: how long a read of what was written waits for it. */
const STALE_MS_MAX = 5_000;
const STALE_PAUSE_MS = 50;
const STALE_PAUSE_MS_MAX = 1_000;
/** Refusals in a row, without another writer, after which a start is tried again later. */
const REFUSALS_MAX = 3;

interface Stored {
  /** Grows with each write: the highest is the sink's checkpoint. */
  readonly revision: bigint;
  /** The process that wrote it. */
  readonly writer: string;
  readonly lease: number;
  /** "" before the first checkpoint. */
  readonly position: string;
  readonly tables: string;
  readonly bond: string;
}

/** One sink's checkpoint in ClickHouse, and what this process knows about it. */
export class ProgressRow {
  readonly #client: Client;
  readonly #sink: string;
  readonly #placement: Placement;
  readonly #writer = randomUUID();
  #held: Stored | null = null;

  constructor(client: Client, sink: string, placement: Placement) {
    this.#client = client;
    this.#sink = sink;
    this.#placement = placement;
  }

  /** Stores our lease, unless a higher one is stored. */
  async takeOver(lease: number, signal: AbortSignal): Promise<SinkProgress | null> {
    await this.#create(signal);
    let before: Stored | null = null;
    for (let refusals = 0; ;) {
      const stored = await this.#read(signal);
      if (stored !== null && stored.lease > lease) throw takenOver(stored.lease, lease);
      // Nobody wrote and yet the server refused: it remembers what followed this row before it was put back.
      refusals = stored !== null && before !== null && isSame(stored, before) ? refusals + 1 : 0;
      if (refusals > REFUSALS_MAX) throw notShown();
      before = stored;
      // Millrace writes more slowly, so this is above all that the server remembers of earlier rows.
      const soon = BigInt(Date.now()) * 1_000n;
      const { revision, ...held } = stored ?? { revision: soon, position: "", tables: "{}", bond: "" };
      const next = { ...held, writer: this.#writer, lease, revision: revision >= soon ? revision + 1n : soon };
      if (await this.#put(next, `${revision} ${refusals}`, signal)) return parsed(next);
    }
  }

  /** Null if nothing is stored; takes nothing over. */
  async look(signal: AbortSignal): Promise<SinkProgress | null> {
    const stored = await this.#read(signal);
    return stored === null ? null : parsed(stored);
  }

  /** The fence: checks that the stored row is the one that this process wrote last. */
  async compare(signal: AbortSignal): Promise<void> {
    const held = this.#held;
    invariant(held !== null, "a sink is opened before it is used");
    const stored = await this.#readFrom(held.revision, signal);
    if (stored === null) {
      throw clickhouseError({
        code: "MR4112",
        kind: "reopen",
        message: "the sink's checkpoint is gone from ClickHouse",
      });
    }
    // A write of ours that got no answer may be stored by now.
    if (stored.writer === held.writer && stored.revision >= held.revision) this.#held = stored;
    else if (stored.lease > held.lease) throw takenOver(stored.lease, held.lease);
    else throw otherProgress(stored, held);
  }

  async write(progress: SinkProgress, signal: AbortSignal): Promise<void> {
    const held = this.#held;
    invariant(held !== null, "a sink is opened before it is used");
    const texts = checkpointTexts(progress);
    const next = { ...held, ...texts, position: serializePosition(progress.position), revision: held.revision + 1n };
    if (await this.#put(next, `${held.revision} 0`, signal)) return;
    const stored = await this.#read(signal);
    if (stored !== null && stored.lease > held.lease) throw takenOver(stored.lease, held.lease);
    // Our own lease is no stranger's: what answers is behind.
    if (stored?.writer !== held.writer || stored.revision <= held.revision) throw notShown();
    // An earlier write of ours, which got no answer, came between.
    this.#held = stored;
    await this.write(progress, signal);
  }

  /** Removes the rows up to the one that this process wrote last. The table stays: other sinks may begin to use it. */
  async remove(signal: AbortSignal): Promise<void> {
    await this.compare(signal);
    const where = `sink = ${quoteLiteral(this.#sink)} AND revision <= ${this.#held!.revision}`;
    await this.#client.run(`ALTER TABLE ${TABLE}${onCluster(this.#placement)} DELETE WHERE ${where}`, signal);
  }

  /**
   * `after`: the revision before, and how often it was refused. False if it is refused: the server takes only the first
   * insert with one token, so of two writers one finds the other's row.
   */
  async #put(next: Stored, after: string, signal: AbortSignal): Promise<boolean> {
    const { revision, writer, lease, position, tables, bond } = next;
    const values = [this.#sink, String(revision), writer, String(lease), position, tables, bond].map(quoteLiteral);
    await this.#client.run(
      `INSERT INTO ${TABLE} (sink, revision, writer, lease, position, tables, bond) VALUES (${values.join(", ")})`,
      signal,
      { insert_deduplicate: 1, insert_deduplication_token: `${this.#sink} after ${after}` },
    );
    const stored = await this.#readFrom(revision, signal);
    if (stored === null || !isEqual(stored, next)) return false;
    this.#held = next;
    return true;
  }

  /** Waits for a row of this revision or a later one. If none comes in time: what is there. */
  async #readFrom(revision: bigint, signal: AbortSignal): Promise<Stored | null> {
    const endMs = performance.now() + STALE_MS_MAX;
    for (let pauseMs = STALE_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, STALE_PAUSE_MS_MAX)) {
      const stored = await this.#read(signal);
      const isThere = stored !== null && stored.revision >= revision;
      if (isThere || performance.now() >= endMs) return stored;
      await sleep(pauseMs, undefined, { signal });
    }
  }

  async #read(signal: AbortSignal): Promise<Stored | null> {
    try {
      const [row] = await this.#client.rows(
        `SELECT revision, writer, lease, position, tables, bond FROM ${TABLE} ` +
          `WHERE sink = ${quoteLiteral(this.#sink)} ORDER BY revision DESC LIMIT 1`,
        signal,
      );
      if (row === undefined) return null;
      const [revision, writer, lease, position, tables, bond] = row.map((value) => value ?? "");
      return {
        revision: BigInt(revision!),
        writer: writer!,
        lease: Number(lease),
        position: position!,
        tables: tables!,
        bond: bond!,
      };
    } catch (error) {
      if (isGone(error)) return null;
      throw error;
    }
  }

  async #create(signal: AbortSignal): Promise<void> {
    const on = onCluster(this.#placement);
    const isReplicated = this.#placement.cluster !== undefined;
    const settings = tableSettings(this.#placement, {
      // Each batch makes a part: those that were merged go soon.
      old_parts_lifetime: 60,
      ...(isReplicated ? {} : { non_replicated_deduplication_window: TOKENS_KEPT }),
    });
    const there = await this.#client.rows(
      `SELECT 1 FROM system.tables WHERE database = ${quoteLiteral(NAME.database)} AND name = ${quoteLiteral(NAME.table)}`,
      signal,
    );
    if (there.length > 0) return;
    await this.#client.run(`CREATE DATABASE IF NOT EXISTS ${quoteIdentifier(NAME.database)}${on}`, signal);
    await this.#client.run(
      `CREATE TABLE IF NOT EXISTS ${TABLE}${on} (sink String, revision UInt64, writer String, lease UInt64, ` +
        `position String, tables String, bond String) ENGINE = ${engineOf(this.#placement, ["revision"])} ` +
        `ORDER BY sink${settings}`,
      signal,
    );
  }
}

function parsed({ position, tables, bond }: Pick<Stored, "position" | "tables" | "bond">): SinkProgress | null {
  return position === "" ? null : { position: parsePosition(position), ...parseCheckpoint(tables, bond) };
}

function isSame(a: Stored, b: Stored): boolean {
  return a.revision === b.revision && a.writer === b.writer;
}

/** One process may have given a number to several writes, of which the server takes one. */
function isEqual(a: Stored, b: Stored): boolean {
  return isSame(a, b) && a.lease === b.lease && a.position === b.position && a.tables === b.tables && a.bond === b.bond;
}

function takenOver(holder: number, lease: number): MillraceError {
  return clickhouseError({
    code: "MR4111",
    kind: "fatal",
    message: `another process holds the sink under lease ${holder}, ours is lease ${lease}`,
  });
}

function notShown(): MillraceError {
  return clickhouseError({
    code: "MR4113",
    kind: "retryable",
    message: "ClickHouse does not show the checkpoint that was written: what answers has not received it yet",
  });
}

/** Progress beyond ours comes from another writer: if two processes took turns, that would never end. */
function otherProgress(stored: Stored, held: Stored): MillraceError {
  const isOlder =
    stored.lease < held.lease ||
    stored.position === "" ||
    held.position === "" ||
    comparePositions(parsePosition(stored.position), parsePosition(held.position)) <= 0;
  return clickhouseError({
    code: "MR4113",
    kind: isOlder ? "reopen" : "fatal",
    message: "ClickHouse does not hold the checkpoint that was written",
  });
}
