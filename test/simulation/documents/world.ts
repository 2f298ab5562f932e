/**
 * The nest, its list of changed documents and the stream over it, as the product has them, between a model of the source and
 * one of a sink. The file is a real one. What is checked: a document is never sent while a table of its is not whole, none
 * goes back behind what a sink has shown, and in the end all are what the source's rows make.
 */
import { setImmediate as turn } from "node:timers/promises";
import type { Nest } from "../../../connectors/nest/nest.ts";
import { type OpenedNest, openNest } from "../../../connectors/nest/open.ts";
import type { ChangeStream, SchemaResolver } from "../../../src/core/contracts/change-log.ts";
import { type Block, NO_TUPLE } from "../../../src/core/model/block.ts";
import type { Batch } from "../../../src/core/model/batch.ts";
import type { Checkpoint } from "../../../src/core/checkpoint.ts";
import type { LogIdentity } from "../../../src/core/contracts/positions.ts";
import { comparePositions, type Position, rowVersion } from "../../../src/core/model/position.ts";
import type { KeyedTable } from "../../../src/core/model/schema.ts";
import { CELL_NULL, CellMap } from "../../../src/core/model/tuple.ts";
import type { Document, DocumentNode, Relation } from "../../../src/documents/document.ts";
import { placesOf } from "../../../src/documents/places.ts";
import { checkpointAt, put, remove, type Write, writes } from "../../conformance/stage.ts";
import { firstVersion, tableVersion } from "../../support/model/blocks.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";
import type { Result } from "../world.ts";
import {
  type DocumentHappening,
  type DocumentPlan,
  type DocumentTable,
  type RowChange,
  type SpareTable,
  TABLE_NAMES,
} from "./plan.ts";

const table = (name: DocumentTable, key: readonly string[], columns: readonly (readonly [string, string])[]) =>
  tableVersion({ table: name, columns: [...key.map((column) => [column, "int4"] as const), ...columns], key });
const NAMES = [
  ["name", "text"],
  ["spare", "text"],
] as const;
/** As they are at first. */
const TABLES: Readonly<Record<DocumentTable, KeyedTable>> = {
  customers: table("customers", ["id"], NAMES),
  orders: table(
    "orders",
    ["id"],
    [
      ["customer_id", "int4"],
      ["status", "text"],
    ],
  ),
  items: table(
    "items",
    ["order_id", "line"],
    [
      ["body", "text"],
      ["tag_id", "int4"],
    ],
  ),
  tags: table("tags", ["id"], NAMES),
};

const node = (of: KeyedTable, names: readonly string[], relations: readonly Relation[] = []): DocumentNode => ({
  table: of,
  fields: names.map((name) => ({ name, column: name })),
  relations,
  transform: null,
});
const relation = (given: Pick<Relation, "name" | "on" | "node"> & Partial<Relation>): Relation => ({
  many: true,
  through: null,
  where: null,
  orderBy: [],
  limit: null,
  value: null,
  ...given,
});
const ITEMS = relation({
  name: "items",
  on: [{ above: "id", below: "order_id" }],
  orderBy: [{ column: "line", isDescending: true }],
  limit: 2,
  node: node(
    TABLES.items,
    ["line", "body"],
    [
      relation({
        name: "tag",
        many: false,
        on: [{ above: "tag_id", below: "id" }],
        node: node(TABLES.tags, ["name"]),
      }),
    ],
  ),
});
const DOCUMENTS: readonly Document[] = [
  {
    name: "orders",
    where: null,
    root: node(
      TABLES.orders,
      ["id", "status"],
      [
        relation({
          name: "customer",
          many: false,
          on: [{ above: "customer_id", below: "id" }],
          node: node(TABLES.customers, ["name"]),
        }),
        ITEMS,
      ],
    ),
  },
  {
    name: "people",
    where: null,
    root: node(
      TABLES.customers,
      ["id", "name"],
      [
        relation({
          name: "orders",
          on: [{ above: "id", below: "customer_id" }],
          node: node(TABLES.orders, ["status"], [ITEMS]),
        }),
      ],
    ),
  },
  {
    name: "tags",
    where: null,
    root: node(
      TABLES.tags,
      ["id", "name"],
      [
        relation({
          name: "orders",
          through: { table: TABLES.items, on: [{ above: "id", below: "tag_id" }] },
          on: [{ above: "order_id", below: "id" }],
          node: node(TABLES.orders, ["id", "status"]),
        }),
      ],
    ),
  },
];

type Row = Readonly<Record<string, string | null>>;
type Rows = ReadonlyMap<DocumentTable, Map<string, Row>>;

const OUTCOME = { incomplete: async () => undefined, poison: async () => undefined };
/** Narrow, so that batches leave much for later, and changes come in between. */
const LIMITS = { batchRows: 6, stepRows: 2, stepValues: 2, pieceRows: 1 };
/** Short, as time is real here. */
const READ_DELAY = { fullFrom: 3 / 20_000, quietMs: 3, waitMs: 15 };
const BUSY_MS_MAX = 1_000;
const BUSY_BATCHES_MAX = 200;
const BLOCKS_MAX = 1_000;
const NUMBER = /^\d+$/;

class Failed extends Error {}

export class DocumentWorld {
  readonly #plan: DocumentPlan;
  readonly #isTraced: boolean;
  readonly #trace: string[] = [];
  readonly #folder = temporaryFolder();
  readonly #signal = AbortSignal.timeout(60_000);
  /** At the source. */
  readonly #rows: Rows = new Map(TABLE_NAMES.map((name) => [name, new Map<string, Row>()]));
  readonly #tables = { ...TABLES };
  readonly #broken = new Set<DocumentTable>();
  readonly #sink = new Map<string, { readonly version: bigint; readonly text: string | null }>();
  #opened!: OpenedNest;
  #lease = 0;
  #at = 1000n;
  #stream: ChangeStream | null = null;
  #identity: LogIdentity = {};
  /** The sink has everything before it, and what of that is acknowledged. */
  #reached!: Position;
  #acknowledged!: Position;
  #events = 0;

  constructor(plan: DocumentPlan, isTraced: boolean) {
    this.#plan = plan;
    this.#isTraced = isTraced;
  }

  async run(): Promise<Result> {
    let failure: string | null = null;
    try {
      await this.#start();
      const created = await this.#opened.source.admin.create(
        { epoch: 1, wantCopy: false, resumeIntent: false },
        this.#signal,
      );
      this.#identity = created.identity;
      this.#reached = this.#acknowledged = created.position;
      for (const happening of this.#plan.happenings) {
        this.#events++;
        if (this.#isTraced) this.#trace.push(JSON.stringify(happening));
        await this.#happen(happening);
      }
      await this.#end();
    } catch (error) {
      failure = error instanceof Error ? error.message : String(error);
    } finally {
      await this.#stream?.[Symbol.asyncDispose]();
      await this.#opened.source.close();
      await this.#opened.sink.close();
      this.#folder[Symbol.dispose]();
    }
    return { failure, trace: this.#trace, virtualMs: 0, events: this.#events };
  }

  get #nest(): Nest {
    return this.#opened.nest;
  }

  async #start(): Promise<Checkpoint | null> {
    const path = this.#folder.file("nest.sqlite");
    this.#opened = openNest({
      name: "documents",
      owner: "sim",
      path,
      documents: DOCUMENTS,
      climbing: LIMITS,
      readDelay: READ_DELAY,
    });
    // What was left, and what was held, waits in every other life until something is acknowledged.
    if (this.#lease % 2 === 0) this.#nest.passed(-(10n ** 6n));
    const held = await this.#opened.sink.open(++this.#lease, this.#signal);
    await this.#opened.sink.prepare(Object.values(this.#tables), this.#signal);
    if (held === null) await this.#apply({ kind: "checkpoint", checkpoint: this.#checkpoint() });
    await this.#hold();
    return held;
  }

  async #hold(): Promise<void> {
    await this.#nest.hold(new Set([...this.#broken].map((name) => TABLES[name].id)), this.#signal);
  }

  /** The process ends, and begins again; `batch`: what was in flight is done again if it was lost. */
  async #restart(batch: Batch | null): Promise<void> {
    await this.#stream?.[Symbol.asyncDispose]();
    this.#stream = null;
    await this.#opened.source.close();
    await this.#opened.sink.close();
    const held = await this.#start();
    const isLost = batch !== null && (held === null || comparePositions(held.position, batch.checkpoint.position) < 0);
    if (isLost) await this.#apply(batch);
    const places = { from: this.#acknowledged, reached: this.#reached };
    this.#identity = await this.#opened.source.admin.resume(this.#identity, places, this.#signal);
    this.#reached = this.#acknowledged;
  }

  #checkpoint(): Checkpoint {
    const complete = TABLE_NAMES.filter((name) => !this.#broken.has(name));
    return checkpointAt(this.#at, Object.fromEntries(complete.map((name) => [TABLES[name].id, "whole"])));
  }

  async #apply(batch: Batch, signal = this.#signal): Promise<void> {
    await this.#opened.sink.apply(batch, OUTCOME, signal);
  }

  async #happen(happening: DocumentHappening): Promise<void> {
    switch (happening.what) {
      case "batch":
        return await this.#apply(this.#batch(happening.changes));
      case "truncate": {
        const { table: name } = happening;
        this.#rows.get(name)!.clear();
        this.#at += 10n;
        const version = rowVersion(1, this.#at);
        return await this.#apply({
          kind: "truncate",
          table: this.#tables[name],
          version,
          checkpoint: this.#checkpoint(),
        });
      }
      case "kill": {
        const batch = this.#batch(happening.changes);
        const killed = new AbortController();
        const applying = this.#apply(batch, killed.signal).catch(() => undefined);
        for (let i = 0; i < happening.turns; i++) await turn();
        killed.abort();
        await applying;
        return await this.#restart(batch);
      }
      case "lose": {
        await this.#break(happening.table);
        for (const change of happening.changes) this.#change(change);
        return;
      }
      case "swap":
        return await this.#swap(happening.table, happening.changes);
      case "read":
        return await this.#read(happening.table, happening.killedAfter);
      case "busy":
        return await this.#busy(happening.rounds);
      case "follow":
        await this.#follow(happening.blocks);
        if (!happening.isLost) return;
        await this.#stream?.[Symbol.asyncDispose]();
        this.#stream = null;
        this.#reached = this.#acknowledged;
        return;
      case "acknowledge":
        await this.#follow(happening.blocks);
        this.#acknowledged = this.#reached;
        if (this.#reached.commit > 0n) await this.#nest.trim(this.#reached.commit - 1n, this.#signal);
        this.#nest.passed(this.#reached.commit - 1n);
        return;
      default:
        happening satisfies never;
    }
  }

  async #busy(rounds: readonly (readonly RowChange[])[]): Promise<void> {
    await this.#apply(this.#batch(rounds[0]!));
    const got: boolean[] = [];
    const following = this.#follow(1).finally(() => got.push(true));
    const until = performance.now() + BUSY_MS_MAX;
    for (let i = 1; got.length === 0; i++) {
      if (i > BUSY_BATCHES_MAX && performance.now() > until)
        throw new Failed("the sink gets nothing while full batches come");
      await this.#apply(this.#batch(rounds[i % rounds.length]!));
      await turn();
    }
    await following;
  }

  /** Invariant: the sink forgets that it holds the table before a change passes it by. */
  async #break(name: DocumentTable): Promise<void> {
    this.#at += 10n;
    this.#broken.add(name);
    await this.#apply({ kind: "checkpoint", checkpoint: this.#checkpoint() });
  }

  async #swap(name: SpareTable, between: readonly RowChange[]): Promise<void> {
    const [id, , spare] = this.#tables[name].columns;
    await this.#alter(name, [id!, spare!]);
    if (between.length > 0) await this.#apply(this.#batch(between));
    const next = { ...spare!, identity: spare!.identity + 1 };
    await this.#alter(name, [id!, { ...spare!, name: "name" }, next]);
    const rows = this.#rows.get(name)!;
    for (const [key, row] of rows) rows.set(key, { ...row, name: row["spare"]!, spare: null });
    // The stream ends, because tables have other shapes, and another one goes on.
    await this.#stream?.[Symbol.asyncDispose]();
    this.#stream = null;
  }

  async #alter(name: SpareTable, columns: KeyedTable["columns"]): Promise<void> {
    const from = this.#tables[name];
    const version = from.version + 1;
    const to = (this.#tables[name] = { ...from, columns, version, fingerprint: `${version}` });
    if (!(await this.#opened.sink.carries(from, to, this.#signal))) await this.#break(name);
    await this.#opened.sink.prepare([to], this.#signal);
  }

  /** In the source, and as what reaches the nest of it. */
  #batch(changes: readonly RowChange[]): Batch {
    this.#at += 10n;
    const entries = new Map<DocumentTable, Map<string, Write>>();
    for (const change of changes) {
      const row = this.#change(change);
      const cells = row ?? [
        ...change.key,
        ...this.#tables[change.table].columns.slice(change.key.length).map(() => null),
      ];
      const list = entries.get(change.table) ?? new Map<string, Write>();
      list.set(change.key.join("|"), row === undefined ? remove(cells) : put(cells));
      entries.set(change.table, list);
    }
    const tables = [...entries].map(([name, list]) => writes(this.#tables[name], this.#at, [...list.values()]));
    return { kind: "rows", tables, checkpoint: this.#checkpoint() };
  }

  #change({ table: name, key, values }: RowChange): readonly (string | null)[] | undefined {
    const rows = this.#rows.get(name)!;
    if (values === undefined) {
      rows.delete(key.join("|"));
      return undefined;
    }
    const cells = [...key, ...values];
    rows.set(key.join("|"), Object.fromEntries(TABLES[name].columns.map((column, i) => [column.name, cells[i]!])));
    return cells;
  }

  /** As a resync does it: rows, sweep, and then the table is whole. */
  async #read(name: DocumentTable, killedAfter: "rows" | "sweep" | null): Promise<void> {
    const version = this.#tables[name];
    this.#at += 10n;
    const below = rowVersion(1, this.#at);
    const rows = [...this.#rows.get(name)!.values()].map((row) =>
      put(version.columns.map((column) => row[column.name]!)),
    );
    const tables = rows.length === 0 ? [] : [writes(version, this.#at, rows)];
    await this.#apply({ kind: "rows", tables, checkpoint: this.#checkpoint() });
    if (killedAfter === "rows") await this.#restart(null);
    this.#at += 10n;
    await this.#apply({ kind: "sweep", sweeps: [{ table: version, below }], checkpoint: this.#checkpoint() });
    if (killedAfter === "sweep") await this.#restart(null);
    this.#at += 10n;
    this.#broken.delete(name);
    await this.#apply({ kind: "checkpoint", checkpoint: this.#checkpoint() });
    await this.#hold();
  }

  /** Up to so many blocks; returns whether there may be more. */
  async #follow(blocks: number): Promise<boolean> {
    const { source } = this.#opened;
    const resolve: SchemaResolver = async (shape) => firstVersion(shape);
    this.#stream ??= await source.log.stream(this.#reached, { temporary: true, resolve }, this.#signal);
    for (let i = 0; i < blocks; i++) {
      const tip = await source.log.tip(this.#signal);
      if (this.#reached.commit >= tip) return false;
      this.#take(await this.#stream.next(this.#signal));
    }
    return true;
  }

  #take(block: Block): void {
    const cells = new CellMap();
    for (let i = 0; i < block.count; i++) {
      const { id, columns } = block.tables[block.table[i]!]!;
      this.#expectWhole(id);
      const after = block.after[i]!;
      cells.read(block.bytes, after === NO_TUPLE ? block.before[i]! : after);
      const texts = columns.map((_, c) =>
        cells.kind[c] === CELL_NULL
          ? null
          : Buffer.from(block.bytes).toString("utf8", cells.start[c], cells.start[c]! + cells.length[c]!),
      );
      const key = `${id} ${texts[0]}`;
      const version = block.transactions.version[block.tx[i]!]!;
      const known = this.#sink.get(key);
      if (known !== undefined && known.version > version) continue;
      this.#sink.set(key, { version, text: after === NO_TUPLE ? null : JSON.stringify(texts) });
    }
    this.#reached = { ...this.#reached, commit: block.until.commit };
  }

  #expectWhole(id: string): void {
    const document = DOCUMENTS.find(({ name }) => id === `documents.${name}`)!;
    const broken = placesOf(document).find(({ table: one }) => [...this.#broken].some((name) => name === one.table));
    if (broken !== undefined) throw new Failed(`${id} was sent while ${broken.table.table} is not whole`);
  }

  async #end(): Promise<void> {
    for (const name of this.#broken) await this.#read(name, null);
    this.#nest.passed(2n ** 60n);
    await this.#nest.listed(this.#signal);
    for (let blocks = 0; await this.#follow(1); blocks++)
      if (blocks > BLOCKS_MAX) throw new Failed("the list has no end");
    const expected = new Map(DOCUMENTS.flatMap((document) => [...this.#documentsOf(document)]));
    for (const key of new Set([...expected.keys(), ...this.#sink.keys()])) {
      const [wanted, found] = [expected.get(key) ?? null, this.#sink.get(key)?.text ?? null];
      if (wanted !== found) throw new Failed(`${key} is ${found}, and ought to be ${wanted}`);
    }
  }

  /** By key, as a sink has it. */
  *#documentsOf({ name, root }: Document): Generator<readonly [string, string]> {
    for (const row of this.#of(root.table.table).values()) {
      const values = [
        ...root.fields.map(({ column }) => row[column]!),
        ...root.relations.map((one) => this.#relation(one, row)),
      ];
      yield [`documents.${name} ${values[0]}`, JSON.stringify(values)];
    }
  }

  #of(name: string): Map<string, Row> {
    return this.#rows.get(TABLE_NAMES.find((one) => one === name)!)!;
  }

  #relation({ many, node, on, through, orderBy, limit }: Relation, above: Row): string | null {
    const joins = (pairs: Relation["on"], upper: Row, lower: Row): boolean =>
      pairs.every((pair) => upper[pair.above] !== null && upper[pair.above] === lower[pair.below]);
    const all = (name: string): readonly Row[] => [...this.#of(name).values()];
    const middle = through === null ? [above] : all(through.table.table).filter((row) => joins(through.on, above, row));
    const found = middle.flatMap((upper) => all(node.table.table).filter((row) => joins(on, upper, row)));
    const keys = TABLES[TABLE_NAMES.find((one) => one === node.table.table)!];
    const order = [...orderBy, ...keys.key.map((i) => ({ column: keys.columns[i]!.name, isDescending: false }))];
    const sorted = found.toSorted((a, b) => {
      for (const { column, isDescending } of order) {
        const by = Number(a[column]) - Number(b[column]);
        if (by !== 0) return isDescending ? -by : by;
      }
      return 0;
    });
    const shown = sorted.slice(0, limit ?? (many ? undefined : 1)).map((row) => {
      const fields = [
        ...node.fields.map(({ name, column }) => [name, jsonOf(row[column]!)] as const),
        ...node.relations.map((one) => [one.name, this.#relation(one, row) ?? "null"] as const),
      ];
      return `{${fields.map(([name, json]) => `"${name}":${json}`).join(",")}}`;
    });
    return many ? `[${shown.join(",")}]` : (shown[0] ?? null);
  }
}

function jsonOf(value: string | null): string {
  return value === null || NUMBER.test(value) ? String(value) : JSON.stringify(value);
}
