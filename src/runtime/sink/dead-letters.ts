import { DELETE, PATCH, type TableWrites } from "../../core/model/batch.ts";
import { type Block, OP_LETTERS, OP_READ } from "../../core/model/block.ts";
import { ByteWriter } from "../../core/bytes.ts";
import { type EnvelopeContext, writeEnvelope } from "../../core/model/envelope.ts";
import type { MillraceError } from "../../core/errors.ts";
import { commitOf, comparePositions, epochOf, type Position, rowVersion } from "../../core/model/position.ts";
import { keyText } from "../../core/model/row-id.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { KeyText } from "../../core/contracts/row-reads.ts";
import type { DeadLetterStore } from "../../core/contracts/state-store.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { functionFailed, impossibleKey, pausedOnPoison, tooManyRefused } from "../errors.ts";
import type { UnplacedRow } from "../compaction/table-compaction.ts";

const NONE: ReadonlyMap<string, LackedChange> = new Map();

/** A change that a sink's row lacks, because the target refused it and the key was not written since. */
export interface LackedChange {
  /** Where it is in the log. */
  readonly position: Position;
  /** Else its letter was discarded. */
  readonly isWaiting: boolean;
}

export interface DeadLetterRules {
  readonly policy: "pause" | "deadLetter";
  /** So many rows of one table may wait in the sink; one more, and the table is at fault. */
  readonly countMax: number;
  /** What passes by while a table is suspended in a history is lost to it: the sink as a whole stops. */
  readonly isHistory: boolean;
  /** Told before a letter is settled whose change a sink that keeps every change lacks for good. A mirror lacks nothing. */
  readonly lose: (tableId: string) => Promise<void>;
}

export const DEAD_LETTERS_MAX = 1_000;

/** Rows that one sink's target refused. Each is stored before the sink's checkpoint passes it. */
export class DeadLetterBox {
  readonly #sink: string;
  readonly #store: DeadLetterStore;
  readonly #rules: DeadLetterRules;
  readonly #context: EnvelopeContext;
  readonly #logger: Logger;
  /** By table and key; null until read from the store. One that waits here may have been discarded since. */
  #lacked: Map<string, Map<string, LackedChange>> | null = null;
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
    if ((await this.lackedOf(table.id)).get(JSON.stringify(key))?.isWaiting === true) await this.#rules.lose(table.id);
    await this.#store.supersede(this.#sink, table.id, [key]);
    this.#lacked = null;
  }

  async #add(table: TableVersion, block: Block, row: number, key: KeyText, error: MillraceError): Promise<void> {
    const text = JSON.stringify(key);
    if (await this.#isFull(table.id, text)) throw tooManyRefused(this.#sink, table.id, this.#rules, error);
    const position = placeOf(block, row);
    const stored = (await this.lackedOf(table.id)).get(text);
    if (isLost(stored, [{ block, row }])) await this.#rules.lose(table.id);
    const envelope = new ByteWriter(4096);
    writeEnvelope(envelope, block, row, this.#context);
    await this.#store.add({
      sink: this.#sink,
      tableId: table.id,
      key,
      op: OP_LETTERS[block.op[row]!]!,
      position,
      code: error.code,
      reason: error.message,
      envelope: envelope.view().toString("utf8"),
    });
    this.#refused.add(inTable(table.id, text));
    this.#keysOf(table.id).set(text, { position, isWaiting: true });
    // Not again at each attempt.
    if (stored?.isWaiting !== true || comparePositions(stored.position, position) !== 0)
      this.#logger.warn({ table: table.id, error }, "a row was refused and is stored as a dead letter");
    if (this.#rules.policy === "pause") throw pausedOnPoison(this.#sink, table.id, error);
  }

  /** Whether a letter more is one too many. A row that has a letter only gets another one in its place. */
  async #isFull(tableId: string, key: string): Promise<boolean> {
    const isTooMuch = (keys: ReadonlyMap<string, LackedChange>): boolean => {
      if (keys.size < this.#rules.countMax || keys.get(key)?.isWaiting === true) return false;
      return [...keys.values()].filter(({ isWaiting }) => isWaiting).length >= this.#rules.countMax;
    };
    if (!isTooMuch(await this.lackedOf(tableId))) return false;
    this.#lacked = null;
    return isTooMuch(await this.lackedOf(tableId));
  }

  /** By key, as JSON. The sink holds an earlier state of these rows: no later change takes a value from one. */
  async lackedOf(tableId: string): Promise<ReadonlyMap<string, LackedChange>> {
    const lacked = (this.#lacked ??= await this.#readLacked());
    return lacked.get(tableId) ?? NONE;
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
      const letters = await this.lackedOf(writes.table.id);
      if (letters.size === 0) continue;
      const { id } = writes.table;
      const written = new Map<string, { readonly key: KeyText; readonly rows: Located[] }>();
      for (let i = 0; i < writes.count; i++) {
        const { block, row, key } = locate(writes, i);
        const text = JSON.stringify(key);
        if (!letters.has(text) || this.#refused.has(inTable(id, text))) continue;
        if (writes.action[i] === PATCH && letters.has(JSON.stringify(baseKey(writes, i)))) continue;
        const rows = written.get(text)?.rows ?? [];
        rows.push({ block, row });
        written.set(text, { key, rows });
      }
      if (written.size === 0) continue;
      if ([...written].some(([text, { rows }]) => isLost(letters.get(text), rows))) await this.#rules.lose(id);
      const keys = [...written.values()].map(({ key }) => key);
      await this.#store.supersede(this.#sink, id, keys);
      for (const text of written.keys()) this.#keysOf(id).delete(text);
    }
  }

  /**
   * The next batch empties the target of the table's rows below this version: letters of them are of rows that are gone.
   * Invariant: before that batch. A process that ends in between empties the target again, and one that ends behind the batch
   * does not.
   */
  async empties({ id }: Pick<TableVersion, "id">, version: bigint): Promise<void> {
    // A history keeps each change.
    const letters = await this.lackedOf(id);
    if (this.#rules.isHistory || letters.size === 0) return;
    const isLacked = ({ position: { epoch, commit }, isWaiting }: LackedChange): boolean =>
      isWaiting && rowVersion(epoch, commit) < version;
    if ([...letters.values()].some(isLacked)) await this.#rules.lose(id);
    await this.#store.supersedeOlder(this.#sink, id, version);
    this.#lacked = null;
  }

  #keysOf(tableId: string): Map<string, LackedChange> {
    const lacked = (this.#lacked ??= new Map());
    const keys = lacked.get(tableId) ?? new Map<string, LackedChange>();
    lacked.set(tableId, keys);
    return keys;
  }

  async #readLacked(): Promise<Map<string, Map<string, LackedChange>>> {
    const result = new Map<string, Map<string, LackedChange>>();
    for (const { tableId, key, position, state } of await this.#store.lacking(this.#sink)) {
      const keys = result.get(tableId) ?? new Map<string, LackedChange>();
      // A key with a discarded letter may have got another one since.
      result.set(tableId, keys.set(JSON.stringify(key), { position, isWaiting: state === "waiting" }));
    }
    return result;
  }
}

interface Located {
  readonly block: Block;
  readonly row: number;
}

/** By the row's version: a row that was read has no commit of its own, and its read's sweep leaves letters from there on. */
function placeOf(block: Block, row: number): Position {
  const version = block.transactions.version[block.tx[row]!]!;
  return { ...block.positionAt(row), epoch: epochOf(version), commit: commitOf(version) };
}

/**
 * Whether the change of a key's letter is not among these of the same key, which follow it. A row that was read is what the
 * source has, and comes in place of what was refused. What was discarded was given up before.
 */
function isLost(letter: LackedChange | undefined, rows: readonly Located[]): boolean {
  if (letter?.isWaiting !== true) return false;
  const { position } = letter;
  return rows.every(
    ({ block, row }) => block.op[row] !== OP_READ && comparePositions(placeOf(block, row), position) > 0,
  );
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
