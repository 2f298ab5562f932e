/**
 * Compares a table with one that another tool fills, without state, slot or columns of ours, while both are live.
 *
 *   1. Servers of one kind (Postgres) add up their rows in buckets, by a hash of each row's text. Rows of equal sums are equal.
 *   2. All other rows are read once on both sides. Each goes into a bucket by the hash of its key and values: the source's are
 *      added, the target's subtracted. Rows that are in both leave nothing.
 *   3. Where something is left, both are read again, and the rows of those buckets become suspects: they differ, or moved
 *      between the reads.
 *   4. Suspects are looked up by key on both sides, twice. A difference counts when it is still there after the time in which
 *      the other tool catches up, and the source's row has not changed meanwhile.
 */
import { type Clock, timestamp } from "../../core/clock.ts";
import type {
  DriftSample,
  NotComparable,
  ReconcileDocument,
  TableReconciliation,
} from "../../core/contracts/reconciliation.ts";
import type { Readable, ReadableTable, TextRow, Within } from "../../core/contracts/readable.ts";
import type { ContentSums, KeyText } from "../../core/contracts/row-reads.ts";
import { RowName } from "../../core/targets/row-name.ts";
import { reasonOf } from "../errors.ts";
import { placeOf } from "../rows/judge.ts";
import { KeyBuckets, KeyHashes } from "../rows/key-buckets.ts";
import type { Pairs, TablePair } from "./pairs.ts";

interface VerifyParts {
  readonly clock: Clock;
  readonly source: Readable;
  readonly target: Readable;
  /** Resolves when the target has what the source had when it was asked. */
  readonly settle: (signal: AbortSignal) => Promise<void>;
  readonly sampleMax: number;
  readonly showsValues: boolean;
}

/** Suspects are settled before there are more. */
const SUSPECTS_MAX = 20_000;
/** Of uneven buckets: with more of them it is quicker to read all rows at once than to look for those. */
const UNEVEN_MAX = 2_048;
/** A row that changes at each look is one that moves. */
const LOOKS_MAX = 5;

interface Row {
  /** In its own side's spelling; of a row that the target names in the source's. */
  readonly key: KeyText;
  /** As both sides spell them. Of a row that the target names, its name comes last. */
  readonly cells: readonly (string | null)[];
}

type Read = { readonly rowCount: number; readonly byteCount: number };
type Keys = { source?: KeyText; target?: KeyText };
type Seen = { readonly source: Row | null; readonly target: Row | null };

/** One table after the other; one that can't be compared is named, and the others go on. */
export async function verifyTables(
  { pairs, unpaired }: Pairs,
  parts: VerifyParts & { readonly onTable: (pair: TablePair) => void },
  signal: AbortSignal,
): Promise<Pick<ReconcileDocument, "tables" | "notComparable">> {
  const tables: TableReconciliation[] = [];
  const notComparable: NotComparable[] = unpaired.map(({ table, reason }) => ({ sink: "target", table, reason }));
  for (const pair of pairs) {
    const [table, sink] = [pair.source.id, pair.target.id];
    parts.onTable(pair);
    for (const reason of pair.gaps) notComparable.push({ sink, table, reason });
    try {
      tables.push(await verifyTable(pair, parts, signal));
    } catch (error) {
      signal.throwIfAborted();
      notComparable.push({ sink, table, reason: reasonOf(error) });
    }
  }
  return { tables, notComparable };
}

async function verifyTable(pair: TablePair, parts: VerifyParts, signal: AbortSignal): Promise<TableReconciliation> {
  return await new TableVerification(pair, parts).run(signal);
}

class TableVerification {
  readonly #pair: TablePair;
  readonly #parts: VerifyParts;
  readonly #source: RowSide;
  readonly #target: RowSide;
  readonly #sample: DriftSample[] = [];
  readonly #counts = { missing: 0, extra: 0, different: 0 };
  readonly #found = new Set<string>();
  #moving = 0;
  #suspects = new Map<string, Keys>();

  constructor(pair: TablePair, parts: VerifyParts) {
    this.#pair = pair;
    this.#parts = parts;
    this.#source = new RowSide(pair, "source", parts.source);
    this.#target = new RowSide(pair, "target", parts.target);
  }

  async run(signal: AbortSignal): Promise<TableReconciliation> {
    const at = timestamp(this.#parts.clock);
    const sums = await this.#addUp(signal);
    const isProven = sums !== null && sums.buckets.length === 0;
    const [source, target] = isProven ? [NOTHING, NOTHING] : await this.#compare(sums ?? undefined, signal);
    const { sourceRows, sinkRows } = sums ?? { sourceRows: source.rowCount, sinkRows: target.rowCount };
    return {
      table: this.#pair.source.id,
      sink: this.#pair.target.id,
      sourceRows,
      sinkRows,
      positions: null,
      coverage: [{ upTo: null, rows: sourceRows, at, position: null }],
      compared: sourceRows,
      sourceBytes: source.byteCount,
      sinkBytes: target.byteCount,
      ...this.#counts,
      repaired: 0,
      unrepairable: 0,
      beyondLog: 0,
      deadLetters: 0,
      moving: this.#moving,
      sample: this.#sample,
    };
  }

  /** Null: the servers can't, or nearly all is uneven, as where their types print one value in two ways. */
  async #addUp(
    signal: AbortSignal,
  ): Promise<(Within & { readonly sourceRows: number; readonly sinkRows: number }) | null> {
    const form = this.#source.forms.find((one) => this.#target.forms.includes(one));
    if (form === undefined || this.#pair.deleted !== null) return null;
    const [source, target] = await Promise.all([this.#source.addUp(form, signal), this.#target.addUp(form, signal)]);
    const buckets: number[] = [];
    let [sourceRows, sinkRows] = [0, 0];
    for (const [bucket, count] of source.counts.entries()) {
      sourceRows += count;
      sinkRows += target.counts[bucket]!;
      if (count !== target.counts[bucket] || source.hashes[bucket] !== target.hashes[bucket]) buckets.push(bucket);
    }
    return buckets.length > UNEVEN_MAX ? null : { form, buckets, sourceRows, sinkRows };
  }

  /** Reads both tables, or the rows of these buckets, and settles what is not on both sides. Resolves to what it read. */
  async #compare(within: Within | undefined, signal: AbortSignal): Promise<readonly [source: Read, target: Read]> {
    const buckets = new KeyBuckets();
    const hashes = new KeyHashes();
    const source = await this.#source.walk(
      within,
      (row) => hashes.add(contentOf(row)),
      signal,
      () => {
        buckets.ofSource(hashes);
        hashes.clear();
      },
    );
    const target = await this.#target.walk(within, (row) => buckets.ofSink(contentOf(row)), signal);
    if (buckets.allEven) return [source, target];
    for (const side of [this.#source, this.#target]) {
      await side.walk(
        within,
        (row) => {
          if (buckets.isUneven(contentOf(row))) this.#suspect(side, row);
        },
        signal,
        async () => {
          if (this.#suspects.size >= SUSPECTS_MAX) await this.#settle(signal);
        },
      );
    }
    await this.#settle(signal);
    return [source, target];
  }

  #suspect(side: RowSide, row: Row): void {
    const id = side.idOf(row);
    if (this.#found.has(id)) return;
    const keys = this.#suspects.get(id) ?? {};
    keys[side.name] = row.key;
    this.#suspects.set(id, keys);
  }

  async #settle(signal: AbortSignal): Promise<void> {
    let open = this.#suspects;
    this.#suspects = new Map();
    let before = await this.#look(open, signal);
    open = new Map([...open].filter(([id]) => !isSame(before.get(id)!)));
    for (let looks = 1; open.size > 0 && looks < LOOKS_MAX; looks++) {
      await this.#parts.settle(signal);
      const now = await this.#look(open, signal);
      for (const id of open.keys()) {
        const [first, second] = [before.get(id)!, now.get(id)!];
        const isSettled = isSame(second);
        const stays = contentOrNone(first.source) === contentOrNone(second.source);
        if (!isSettled && !stays) continue;
        if (!isSettled) this.#differs(id, second);
        open.delete(id);
      }
      before = now;
    }
    this.#moving += open.size;
  }

  async #look(suspects: ReadonlyMap<string, Keys>, signal: AbortSignal): Promise<Map<string, Seen>> {
    const ids = [...suspects];
    const [source, target] = await Promise.all([
      this.#source.rowsAt(
        ids.map(([, keys]) => keys.source ?? keys.target!),
        signal,
      ),
      this.#target.rowsAt(
        ids.map(([, keys]) => keys.target ?? keys.source!),
        signal,
      ),
    ]);
    return new Map(ids.map(([id]) => [id, { source: source.get(id) ?? null, target: target.get(id) ?? null }]));
  }

  #differs(id: string, { source, target }: Seen): void {
    this.#found.add(id);
    const kind = target === null ? "missing" : source === null ? "extra" : "different";
    this.#counts[kind]++;
    if (this.#sample.length >= this.#parts.sampleMax) return;
    const { columns, source: table } = this.#pair;
    const shown = (source ?? target)!;
    const differing =
      kind !== "different"
        ? []
        : columns.flatMap((column, i) => {
            const [expected, found] = [source!.cells[i] ?? null, target!.cells[i] ?? null];
            return expected === found ? [] : [{ column, expected, found }];
          });
    const values = Object.fromEntries(differing.map(({ column, ...pair }) => [column.name, pair]));
    this.#sample.push({
      kind,
      key: Object.fromEntries(table.key.map((ordinal, part) => [table.columns[ordinal]!.name, shown.key[part]!])),
      columns: differing.map(({ column, expected, found }) => placeOf(table.columns[column.source]!, expected, found)),
      why: "unknown",
      ...(this.#parts.showsValues && differing.length > 0 ? { values } : {}),
    });
  }
}

const NOTHING: Read = { rowCount: 0, byteCount: 0 };

const NOT_DELETED: ReadonlySet<string | null | undefined> = new Set([null, "", "0", "f", "false"]);

/** One of the two tables. */
class RowSide {
  readonly name: "source" | "target";
  readonly #pair: TablePair;
  readonly #reads: Readable;
  readonly #table: ReadableTable;
  readonly #columns: readonly number[];

  constructor(pair: TablePair, name: "source" | "target", reads: Readable) {
    this.name = name;
    this.#pair = pair;
    this.#reads = reads;
    // The target's rows are found by the source's key, whatever other key they have there.
    const there = pair.key instanceof RowName ? [] : pair.key.map((i) => pair.columns[i]!.target);
    this.#table = { ...pair[name], key: name === "source" ? pair.source.key : there };
    const own = pair.key instanceof RowName ? pair.source.key : [];
    const mark = pair.deleted === null ? [] : [pair.deleted];
    this.#columns = [...pair.columns.map((column) => column[name]), ...(name === "source" ? own : mark)];
  }

  get forms(): readonly string[] {
    return this.#reads.sums?.forms(this.#table, this.#columns) ?? [];
  }

  async addUp(form: string, signal: AbortSignal): Promise<ContentSums> {
    return await this.#reads.sums!.of(this.#table, { columns: this.#columns, form }, signal);
  }

  async walk(
    within: Within | undefined,
    take: (row: Row) => void,
    signal: AbortSignal,
    between?: () => void | Promise<void>,
  ): Promise<Read> {
    let [rowCount, byteCount] = [0, 0];
    for await (const part of this.#reads.rows(this.#table, this.#columns, signal, within)) {
      for (const texts of part) {
        const row = this.#row(texts);
        if (row === null) continue;
        take(row);
        rowCount++;
        for (const text of texts) byteCount += text?.length ?? 0;
      }
      await between?.();
    }
    return { rowCount, byteCount };
  }

  async rowsAt(keys: readonly KeyText[], signal: AbortSignal): Promise<Map<string, Row>> {
    const { key: name } = this.#pair;
    const asked = this.name === "target" && name instanceof RowName ? keys.map((key) => [name.of(key)]) : keys;
    const texts = await this.#reads.rowsAt(this.#table, this.#columns, asked, signal);
    const rows = texts.map((one) => this.#row(one)).filter((row) => row !== null);
    return new Map(rows.map((row) => [this.idOf(row), row]));
  }

  /** By a flag of any type, or by the time of the deletion. */
  #isDeleted(texts: TextRow): boolean {
    const { deleted, columns } = this.#pair;
    return this.name === "target" && deleted !== null && !NOT_DELETED.has(texts[columns.length]);
  }

  /** Null: it is marked as deleted, or its name is none of this table's. */
  #row(texts: TextRow): Row | null {
    const own = this.#isDeleted(texts) ? null : this.#keyIn(texts);
    if (own === null) return null;
    const { columns, key } = this.#pair;
    const side = this.name === "source" ? 0 : 1;
    const cells = columns.map(({ spell }, i) => (texts[i] == null ? null : spell[side](texts[i])));
    return { key: own, cells: key instanceof RowName ? [...cells, key.of(own)] : cells };
  }

  #keyIn(texts: TextRow): KeyText | null {
    const { columns, key } = this.#pair;
    if (!(key instanceof RowName)) return key.map((i) => texts[i] ?? "");
    if (this.name === "target") return key.keyIn(texts.at(-1) ?? "");
    return texts.slice(columns.length).map((text) => text ?? "");
  }

  /** The key as both sides spell it. */
  idOf({ cells }: Row): string {
    const { key } = this.#pair;
    return key instanceof RowName ? cells.at(-1)! : JSON.stringify(key.map((i) => cells[i]));
  }
}

function isSame({ source, target }: Seen): boolean {
  return contentOrNone(source) === contentOrNone(target);
}

function contentOrNone(row: Row | null): string | null {
  return row === null ? null : contentOf(row);
}

/** One text for equal rows: each value behind its length. */
function contentOf({ cells }: Row): string {
  let content = "";
  for (const cell of cells) content += cell === null ? "~" : `${cell.length}:${cell}`;
  return content;
}
