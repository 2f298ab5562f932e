import { DELETE, PATCH, type TableWrites } from "../../core/model/batch.ts";
import { type Block, OP_LETTERS } from "../../core/model/block.ts";
import { ByteWriter } from "../../core/bytes.ts";
import { type EnvelopeContext, writeEnvelope } from "../../core/model/envelope.ts";
import type { MillraceError } from "../../core/errors.ts";
import { commitOf, epochOf, type Position } from "../../core/model/position.ts";
import { keyText } from "../../core/model/row-id.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { KeyText } from "../../core/contracts/row-reads.ts";
import type { DeadLetterStore } from "../../core/contracts/state-store.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { functionFailed, impossibleKey, pausedOnPoison, tooManyRefused } from "../errors.ts";
import type { UnplacedRow } from "../compaction/table-compaction.ts";

const NONE: ReadonlySet<string> = new Set();

export interface DeadLetterRules {
  readonly policy: "pause" | "deadLetter";
  /** So many rows of one table may wait in the sink; one more, and the table is at fault. */
  readonly countMax: number;
  /** What passes by while a table is suspended in a history is lost to it: the sink as a whole stops. */
  readonly isHistory: boolean;
}

export const DEAD_LETTERS_MAX = 1_000;

/** Rows that one sink's target refused. Each is stored before the sink's checkpoint passes it. */
export class DeadLetterBox {
  readonly #sink: string;
  readonly #store: DeadLetterStore;
  readonly #rules: DeadLetterRules;
  readonly #context: EnvelopeContext;
  readonly #logger: Logger;
  /** Keys with a waiting letter, by table; null until read from the store. A letter that was discarded since may be in it. */
  #waiting: Map<string, Set<string>> | null = null;
  /** Keys refused by the attempt in flight, with their tables. */
  readonly #refused = new Set<string>();

  constructor(sink: string, store: DeadLetterStore, rules: DeadLetterRules, context: EnvelopeContext, logger: Logger) {
    this.#sink = sink;
    this.#store = store;
    this.#rules = rules;
    this.#context = context;
    this.#logger = logger;
  }

  /** A batch is tried, perhaps again: the target may now accept rows that it refused in an earlier attempt. */
  beginAttempt(): void {
    this.#refused.clear();
  }

  async add(writes: TableWrites, entry: number, error: MillraceError): Promise<void> {
    const { block, row, key } = locate(writes, entry);
    await this.#add(writes.table, block, row, key, error);
  }

  /** A row that no target gets is a dead letter as long as the source has it. */
  async updateUnplaced({ table, block, row, isGone, failed }: UnplacedRow): Promise<void> {
    const key = keyText(table, block.bytes, isGone ? block.before[row]! : block.after[row]!);
    const error = failed === null ? impossibleKey(table.id) : functionFailed(table.id, failed.column, failed.how);
    if (!isGone) return await this.#add(table, block, row, key, error);
    await this.#store.supersede(this.#sink, table.id, [key]);
    this.#waiting = null;
  }

  async #add(table: TableVersion, block: Block, row: number, key: KeyText, error: MillraceError): Promise<void> {
    const text = JSON.stringify(key);
    if (await this.#isFull(table.id, text)) throw tooManyRefused(this.#sink, table.id, this.#rules, error);
    const envelope = new ByteWriter(4096);
    writeEnvelope(envelope, block, row, this.#context);
    await this.#store.add({
      sink: this.#sink,
      tableId: table.id,
      key,
      op: OP_LETTERS[block.op[row]!]!,
      position: placeOf(block, row),
      code: error.code,
      reason: error.message,
      envelope: envelope.view().toString("utf8"),
    });
    this.#refused.add(inTable(table.id, text));
    this.#keysOf(table.id).add(text);
    this.#logger.warn({ table: table.id, error }, "a row was refused and is stored as a dead letter");
    if (this.#rules.policy === "pause") throw pausedOnPoison(this.#sink, table.id, error);
  }

  /** Whether a letter more is one too many. A row that has a letter only gets another one in its place. */
  async #isFull(tableId: string, key: string): Promise<boolean> {
    const isTooMuch = (keys: ReadonlySet<string>) => keys.size >= this.#rules.countMax && !keys.has(key);
    if (!isTooMuch(await this.waitingOf(tableId))) return false;
    this.#waiting = null;
    return isTooMuch(await this.waitingOf(tableId));
  }

  /** The keys of a table with a waiting letter, each as JSON. The sink holds an earlier state of these rows. */
  async waitingOf(tableId: string): Promise<ReadonlySet<string>> {
    const waiting = (this.#waiting ??= await this.#readWaiting());
    return waiting.get(tableId) ?? NONE;
  }

  /**
   * Resolves the letters of keys that this batch has written: they need no replay. A written row may have taken unchanged
   * cells from a row that has a letter. It is then as wrong as that row: its key is listed, and the key lookup resolves it.
   * `unplaced`: what the batch leaves out of other changes of the same keys.
   */
  async supersede(tables: readonly TableWrites[], unplaced: readonly UnplacedRow[] = []): Promise<void> {
    for (const { table, block, row, isGone } of unplaced)
      if (!isGone) this.#refused.add(inTable(table.id, JSON.stringify(keyText(table, block.bytes, block.after[row]!))));
    for (const writes of tables) {
      const letters = await this.waitingOf(writes.table.id);
      if (letters.size === 0) continue;
      const written: KeyText[] = [];
      for (let i = 0; i < writes.count; i++) {
        const { key } = locate(writes, i);
        const text = JSON.stringify(key);
        if (!letters.has(text) || this.#refused.has(inTable(writes.table.id, text))) continue;
        if (writes.action[i] !== PATCH || !letters.has(JSON.stringify(baseKey(writes, i)))) written.push(key);
      }
      if (written.length === 0) continue;
      await this.#store.supersede(this.#sink, writes.table.id, written);
      for (const key of written) this.#keysOf(writes.table.id).delete(JSON.stringify(key));
    }
  }

  /**
   * The next batch empties the target of the table's rows below this version: letters of them are of rows that are gone.
   * Invariant: before that batch. A process that ends in between empties the target again, and one that ends behind the batch
   * does not.
   */
  async empties({ id }: Pick<TableVersion, "id">, version: bigint): Promise<void> {
    // A history keeps each change.
    if (this.#rules.isHistory || (await this.waitingOf(id)).size === 0) return;
    await this.#store.supersedeOlder(this.#sink, id, version);
    this.#waiting = null;
  }

  #keysOf(tableId: string): Set<string> {
    const waiting = (this.#waiting ??= new Map());
    const keys = waiting.get(tableId) ?? new Set();
    waiting.set(tableId, keys);
    return keys;
  }

  async #readWaiting(): Promise<Map<string, Set<string>>> {
    const result = new Map<string, Set<string>>();
    for (const letter of await this.#store.list({ sink: this.#sink, state: "waiting" })) {
      const keys = result.get(letter.tableId) ?? new Set();
      result.set(letter.tableId, keys.add(JSON.stringify(letter.key)));
    }
    return result;
  }
}

/** By the row's version: a row that was read has no commit of its own, and its read's sweep leaves letters from there on. */
function placeOf(block: Block, row: number): Position {
  const version = block.transactions.version[block.tx[row]!]!;
  return { ...block.positionAt(row), epoch: epochOf(version), commit: commitOf(version) };
}

function inTable(tableId: string, key: string): string {
  return `${tableId} ${key}`;
}

export function locate(writes: TableWrites, entry: number): { block: Block; row: number; key: KeyText } {
  const block = writes.blocks[writes.block[entry]!]!;
  const row = writes.row[entry]!;
  const offset = writes.action[entry] === DELETE ? block.before[row]! : block.after[row]!;
  return { block, row, key: keyText(writes.table, block.bytes, offset) };
}

/** The key of the row that a PATCH takes its unchanged cells from. */
export function baseKey(writes: TableWrites, entry: number): KeyText {
  const block = writes.blocks[writes.block[entry]!]!;
  const row = writes.row[entry]!;
  const offset = writes.moved[entry] === 1 ? block.before[row]! : block.after[row]!;
  return keyText(writes.table, block.bytes, offset);
}
