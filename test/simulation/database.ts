/**
 * A small database: tables with keys, transactions that commit in another order than they wrote, become visible later than
 * they are in the log, and lock the rows that they write. What is kept apart: what was committed, and what others see of it.
 */
import type { TableShape } from "../../src/core/contracts/catalog.ts";
import { type Cell, type Change, UNCHANGED } from "../support/model/blocks.ts";
import { shapeOf } from "./shapes.ts";

/** Whole rows as text. The first cell is the key, the second counts: each write of a row has a number of its own. */
export type Row = readonly (string | null)[];

export interface Table {
  name: string;
  shape: TableShape;
  /** Rows that everybody sees, by key. */
  rows: Map<string, Row>;
  /** Rewritten, or made again, without a word in the log. */
  generation: number;
  /** By the identity of a column that went: the number of the last row that was written before. */
  dropped: ReadonlyMap<number, number>;
}

export type Alteration = "add" | "drop" | "rename";

export type LoggedChange = Omit<Change, "table" | "commit"> & { readonly shape: TableShape };

export interface LogEntry {
  readonly commit: bigint;
  readonly xid: number;
  readonly changes: readonly LoggedChange[];
  readonly message: string | null;
  /** Behind it every stream looks at these shapes anew. */
  readonly shapes: readonly TableShape[];
}

export type Op = "insert" | "update" | "move" | "delete" | "replace" | "chain" | "truncate";

export interface Operation {
  readonly op: Op;
  readonly table: number;
  readonly key: number;
  readonly target: number;
  /** Its transaction goes back to the savepoint before it. */
  readonly isUndone?: true;
}

/** One that has written and is not over, or is in the log and nobody sees it yet. */
interface Transaction {
  readonly xid: number;
  changes: LoggedChange[];
  /** By table name: what it leaves under each key; undefined: nothing. */
  writes: Map<string, Map<string, Row | undefined>>;
  truncated: Set<string>;
  isCommitted: boolean;
}

export interface DatabaseCopy {
  readonly tables: readonly Table[];
  readonly log: readonly LogEntry[];
  readonly end: bigint;
}

export interface Snapshot {
  /** As Postgres writes it. */
  readonly snapshot: string;
  readonly sees: (xid: number) => boolean;
}

export class Database {
  readonly tables: Table[] = [];
  log: LogEntry[] = [];
  /** Where the log ends. */
  end = 1000n;
  /** Of transactions with changes, of changes of shape, and of returns to an earlier state. */
  commitCount = 0;
  #identity = 100;
  /** Of the tables: one that is made again is another one. */
  #relation = 0;
  #xid = 100;
  #count = 0;
  /** Where each state of a row was committed. */
  readonly #commits = new Map<number, readonly bigint[]>();
  #open: Transaction[] = [];
  readonly #logsWholeRows: boolean;
  readonly #changesOne: boolean;
  readonly #onAppend = new Set<() => void>();

  /** `logsWholeRows`: large values that stayed, too. `changesOne`: an update changes at most one of them. */
  constructor({ logsWholeRows = false, changesOne = false } = {}) {
    this.#logsWholeRows = logsWholeRows;
    this.#changesOne = changesOne;
  }

  addTable(name: string, columns: readonly string[]): Table {
    const shape = shapeOf(name, columns, ++this.#relation);
    const table: Table = { name, shape, rows: new Map(), generation: 1, dropped: new Map() };
    this.tables.push(table);
    this.commitCount++;
    return table;
  }

  /** One of those that there are; undefined: there is none. */
  table(ordinal: number): Table | undefined {
    return this.tables[ordinal % this.tables.length];
  }

  onAppend(listener: () => void): () => void {
    this.#onAppend.add(listener);
    return () => this.#onAppend.delete(listener);
  }

  nextCount(): number {
    return ++this.#count;
  }

  get openXids(): readonly number[] {
    return this.#open.map(({ xid }) => xid);
  }

  get committingXids(): readonly number[] {
    return this.#open.filter(({ isCommitted }) => isCommitted).map(({ xid }) => xid);
  }

  /** What others see now. */
  snapshot(): Snapshot {
    const unseen = new Set(this.openXids);
    const next = this.#xid;
    const open = [...unseen].toSorted((a, b) => a - b);
    const snapshot = `${open[0] ?? next + 1}:${next + 1}:${open.join(",")}`;
    return { snapshot, sees: (xid) => xid <= next && !unseen.has(xid) };
  }

  /** Rows as the log has left them, whoever sees that. */
  committed(table: Table): ReadonlyMap<string, Row> {
    const rows = new Map(table.rows);
    for (const one of this.#open) if (one.isCommitted) applyTo(rows, table.name, one);
    return rows;
  }

  /** Writes of a new transaction, as far as they are possible now; null: none is. */
  begin(operations: readonly Operation[]): number | null {
    const transaction: Transaction = {
      xid: ++this.#xid,
      changes: [],
      writes: new Map(),
      truncated: new Set(),
      isCommitted: false,
    };
    for (const operation of operations) {
      const savepoint = operation.isUndone === true ? savepointOf(transaction) : {};
      this.#operate(transaction, operation);
      Object.assign(transaction, savepoint);
    }
    if (transaction.changes.length === 0) return null;
    this.#open.push(transaction);
    return transaction.xid;
  }

  /** 0: before the log. */
  commitsOf(count: number): readonly bigint[] {
    return this.#commits.get(count) ?? [];
  }

  #committed(count: number, commit: bigint): void {
    this.#commits.set(count, [...this.commitsOf(count), commit]);
  }

  /** In the log; nobody else sees it before `show`. */
  commit(xid: number): bigint | null {
    const transaction = this.#open.find((one) => one.xid === xid);
    if (transaction === undefined || transaction.isCommitted) return null;
    transaction.isCommitted = true;
    const commit = this.#append(xid, transaction.changes, null);
    for (const { after } of transaction.changes) if (after !== undefined) this.#committed(Number(after[1]), commit);
    return commit;
  }

  /** For people. */
  describe(xid: number): string {
    const changes = this.#open.find((one) => one.xid === xid)?.changes ?? [];
    return changes
      .map(({ op, shape, before, after }) => {
        const row = after?.map((cell) => (typeof cell === "symbol" ? "=" : (cell ?? "-"))).join() ?? "";
        const from = before === undefined ? "" : `${String(before[0])}${after === undefined ? "" : " to "}`;
        return `${op} ${shape.table}/${from}${row}`;
      })
      .join("; ");
  }

  rollback(xid: number): void {
    this.#open = this.#open.filter((one) => one.xid !== xid || one.isCommitted);
  }

  show(xid: number): void {
    const transaction = this.#open.find((one) => one.xid === xid);
    if (transaction === undefined || !transaction.isCommitted) return;
    this.#open = this.#open.filter((one) => one !== transaction);
    for (const table of this.tables) applyTo(table.rows, table.name, transaction);
  }

  /** Whatever is under way is over: who has committed is seen, who has not is rolled back. */
  settle(): void {
    for (const { xid, isCommitted } of this.#open) {
      if (isCommitted) this.show(xid);
      else this.rollback(xid);
    }
  }

  mark(content: string): bigint {
    return this.#append(0, [], content);
  }

  /** A mark behind which streams look at the tables' shapes anew. */
  renew(): bigint {
    return this.#append(
      0,
      [],
      "",
      this.tables.map(({ shape }) => shape),
    );
  }

  /** The last column goes, has another name from then on, or another one comes. False where somebody has written to the table. */
  alter(table: Table, how: Alteration): boolean {
    if (this.#isUsed(table)) return false;
    const { columns, relation } = table.shape;
    if (how !== "add" && columns.length < 4) return false;
    const others = spelled(table).slice(0, how === "add" ? undefined : -1);
    const number = ++this.#identity;
    const last = columns.at(-1)!.identity;
    const changed = how === "drop" ? others : [...others, `x${number}@${how === "add" ? number : last}`];
    table.shape = shapeOf(table.name, changed, relation);
    this.commitCount++;
    if (how === "rename") return true;
    for (const [key, row] of table.rows) table.rows.set(key, how === "drop" ? row.slice(0, -1) : [...row, null]);
    if (how === "drop") table.dropped = new Map([...table.dropped, [last, this.#count]]);
    return true;
  }

  /** A row comes, goes or changes without a word in the log, as when a partition is attached. False: somebody writes there. */
  changeUnlogged(table: Table, key: string): boolean {
    if (this.#isUsed(table)) return false;
    if (table.rows.has(key)) table.rows.delete(key);
    else {
      const row = this.#row(table, key);
      table.rows.set(key, row);
      this.#committed(Number(row[1]), this.end);
    }
    this.#changedUnlogged(table);
    return true;
  }

  /** A part of the rows leaves the table without a word in the log, as a partition that is detached. Null: as with `drop`. */
  detach(table: Table, part: number): ReadonlyMap<string, Row> | null {
    if (this.#isUsed(table)) return null;
    const rows = new Map([...table.rows].filter(([key]) => Number(key) % 2 === part));
    for (const key of rows.keys()) table.rows.delete(key);
    this.#changedUnlogged(table);
    return rows;
  }

  /** It comes back, but for keys that others have now. Its rows may have changed meanwhile. False: as with `drop`. */
  attach(table: Table, part: ReadonlyMap<string, Row>, areChanged: boolean): boolean {
    if (this.#isUsed(table)) return false;
    for (const [key, row] of part) {
      if (table.rows.has(key)) continue;
      const now = areChanged ? this.#changed(row, key) : row;
      table.rows.set(key, now);
      this.#committed(Number(now[1]), this.end);
    }
    this.#changedUnlogged(table);
    return true;
  }

  #changedUnlogged(table: Table): void {
    table.generation++;
    this.commitCount++;
  }

  /** False where somebody has written to the table. */
  drop(table: Table): boolean {
    const at = this.tables.indexOf(table);
    if (at < 0 || this.#isUsed(table)) return false;
    this.tables.splice(at, 1);
    this.commitCount++;
    return true;
  }

  /** A copy of the table takes its name, and it is gone, as tools do that alter a table beside its use. False: as with `drop`. */
  swap(table: Table): boolean {
    if (!this.drop(table)) return false;
    const columns = table.shape.columns.map(({ name }) => name);
    const copy = this.addTable(table.name, columns);
    for (const [key, row] of table.rows) copy.rows.set(key, row);
    return true;
  }

  /** False where somebody has written to the table, or the name is another one's. */
  rename(table: Table, name: string): boolean {
    if (this.#isUsed(table) || this.tables.some((one) => one.name === name)) return false;
    Object.assign(table, {
      name,
      shape: shapeOf(name, spelled(table), table.shape.relation),
      generation: table.generation + 1,
    });
    this.commitCount++;
    return true;
  }

  #isUsed({ name }: Table): boolean {
    return this.#open.some(({ writes }) => writes.has(name));
  }

  /** As a backup has it: what is under way is not in it. */
  copy(): DatabaseCopy {
    const tables = this.tables.map((table) => ({ ...table, rows: new Map(this.committed(table)) }));
    return { tables, log: [...this.log], end: this.end };
  }

  restore({ tables, log, end }: DatabaseCopy): void {
    this.#open = [];
    this.tables.splice(0, this.tables.length, ...tables.map((table) => ({ ...table, rows: new Map(table.rows) })));
    this.log = [...log];
    this.end = end;
    this.commitCount++;
  }

  /** The same transactions at other places. */
  move(offset: bigint): void {
    this.log = this.log.map((entry) => ({ ...entry, commit: entry.commit + offset }));
    this.end += offset;
    for (const [count, commits] of this.#commits)
      this.#commits.set(
        count,
        commits.map((commit) => commit + offset),
      );
    this.#wake();
  }

  /** The log before this place is thrown away. */
  purge(to: bigint): void {
    this.log = this.log.filter(({ commit }) => commit >= to);
  }

  #append(
    xid: number,
    changes: readonly LoggedChange[],
    message: string | null,
    shapes: readonly TableShape[] = [],
  ): bigint {
    const commit = (this.end += 10n);
    this.log.push({ commit, xid, changes, message, shapes });
    if (xid !== 0) this.commitCount++;
    this.end += 1n;
    this.#wake();
    return commit;
  }

  #wake(): void {
    // Who is told may listen again.
    const listeners = Array.from(this.#onAppend);
    for (const listener of listeners) listener();
  }

  #operate(transaction: Transaction, { op, table: ordinal, key: number, target: to }: Operation): void {
    const table = this.table(ordinal);
    if (table === undefined) return;
    const key = String(number);
    if (op === "truncate") return this.#truncate(transaction, table);
    const target = String(to);
    if (this.#isLocked(transaction, table, key) || this.#isLocked(transaction, table, target)) return;
    const own = ownWrites(transaction, table);
    const at = (k: string): Row | undefined =>
      own.has(k) || transaction.truncated.has(table.name) ? own.get(k) : table.rows.get(k);
    const old = at(key);
    const { shape } = table;
    const put = (k: string, row: Row | undefined): void => void own.set(k, row);
    const log = (change: Omit<LoggedChange, "shape">): void => void transaction.changes.push({ shape, ...change });
    if (op === "insert") {
      if (old !== undefined) return;
      const row = this.#row(table, key);
      put(key, row);
      return log({ op: "c", after: row });
    }
    if (old === undefined) return;
    if (op === "delete" || op === "replace") {
      put(key, undefined);
      log({ op: "d", before: old });
      if (op === "delete") return;
      const row = this.#row(table, key);
      put(key, row);
      return log({ op: "c", after: row });
    }
    if (op === "update" || key === target || at(target) !== undefined) {
      const row = this.#changed(old, key);
      put(key, row);
      return log({ op: "u", after: this.#carried(row, old) });
    }
    const row = this.#changed(old, target);
    put(key, undefined);
    put(target, row);
    log({ op: "u", after: this.#carried(row, old), before: old });
    if (op !== "chain") return;
    const again = this.#row(table, key);
    put(key, again);
    log({ op: "c", after: again });
  }

  #truncate(transaction: Transaction, table: Table): void {
    if (this.#isUsed(table) || transaction.writes.has(table.name)) return;
    transaction.truncated.add(table.name);
    ownWrites(transaction, table);
    transaction.changes.push({ shape: table.shape, op: "t" });
  }

  #isLocked(own: Transaction, table: Table, key: string): boolean {
    return this.#open.some(
      (one) => one !== own && (one.truncated.has(table.name) || one.writes.get(table.name)?.has(key) === true),
    );
  }

  #row(table: Table, key: string): Row {
    const count = this.nextCount();
    return table.shape.columns.map((_, i) => (i === 0 ? key : i === 1 ? String(count) : `c${count}`));
  }

  /** What the log carries of a changed row: large values that stayed may be left out. */
  #carried(row: Row, old: Row): Cell[] {
    if (this.#logsWholeRows) return [...row];
    return row.map((cell, i) => (i > 1 && cell === old[i] ? UNCHANGED : cell));
  }

  /** The last columns are large values, which stay more often than not. */
  #changed(old: Row, key: string): Row {
    const count = this.nextCount();
    const changes = (i: number): boolean => count % 3 === 0 && (!this.#changesOne || (count + i) % 2 === 1);
    return old.map((cell, i) => (i === 0 ? key : i === 1 ? String(count) : changes(i) ? `c${count}` : cell));
  }
}

/** Its columns, as `shapeOf` takes them. */
function spelled({ shape }: Table): readonly string[] {
  return shape.columns.map(({ name, identity }) => `${name}@${identity}`);
}

function savepointOf({ changes, writes, truncated }: Transaction): Partial<Transaction> {
  const copy = new Map([...writes].map(([table, rows]) => [table, new Map(rows)]));
  return { changes: [...changes], writes: copy, truncated: new Set(truncated) };
}

function ownWrites(transaction: Transaction, table: Table): Map<string, Row | undefined> {
  let own = transaction.writes.get(table.name);
  if (own === undefined) transaction.writes.set(table.name, (own = new Map()));
  return own;
}

function applyTo(rows: Map<string, Row>, table: string, { writes, truncated }: Transaction): void {
  if (truncated.has(table)) rows.clear();
  for (const [key, row] of writes.get(table) ?? []) {
    if (row === undefined) rows.delete(key);
    else rows.set(key, row);
  }
}
