/**
 * A shop whose rows and tables change in all the ways that are hard for documents. Nothing but values joins its tables: parents
 * go before their children, and come back. What its documents must be is built by the source's own SQL.
 */
import { Redis } from "ioredis";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import type { Random } from "../run/random.ts";
import type { FreshDatabase } from "../run/fresh-database.ts";
import type { FreshMysqlDatabase } from "../mysql/mysql-database.ts";
import { documentsInSearch, MYSQL_DOCUMENTS, POSTGRES_DOCUMENTS, SHOP_TABLES } from "./shop-documents.ts";

export const HOSTILE_TABLES = SHOP_TABLES.map((sql) =>
  sql.replaceAll(/, foreign key \(\w+\) references \w+ \(id\)( on update cascade)?/g, ""),
);

export type ShopDialect = "postgres" | "mysql";

export interface ShopDatabase {
  readonly dialect: ShopDialect;
  /** One transaction. */
  transact(statements: readonly string[]): Promise<void>;
  /** Rows as lists of texts. */
  texts(sql: string): Promise<readonly (readonly (string | null)[])[]>;
}

export function postgresShop(source: Pick<FreshDatabase, "query">): ShopDatabase {
  const query = (sql: string) => source.query(sql);
  return {
    dialect: "postgres",
    texts: async (sql) => {
      const { rows } = await query(sql);
      return rows.map((row) =>
        Object.values(row).map((value: unknown) =>
          value === null || typeof value === "string" ? value : JSON.stringify(value),
        ),
      );
    },
    transact: inTurn(async (statements) => {
      try {
        await query(["begin", ...statements, "commit"].join("; "));
      } catch (error) {
        await query("rollback");
        throw error;
      }
    }),
  };
}

/** One transaction after the other: there is one session. */
function inTurn(transact: ShopDatabase["transact"]): ShopDatabase["transact"] {
  let last: Promise<unknown> = Promise.resolve();
  return async (statements) => {
    const own = last.then(() => transact(statements));
    last = own.catch(() => undefined);
    await own;
  };
}

export function mysqlShop(source: FreshMysqlDatabase): ShopDatabase {
  const { connection } = source;
  return {
    dialect: "mysql",
    texts: (sql) => source.texts(sql),
    transact: inTurn(async (statements) => {
      for (const sql of ["begin", ...statements, "commit"]) await connection.query(sql);
    }),
  };
}

/** `orders` names its columns; `people` has all of two tables, whatever they are. */
export function hostileDocuments(schema: string): object {
  const items = { from: `${schema}.order_items`, many: true, on: { order_id: "id" } };
  return {
    orders: {
      from: `${schema}.orders`,
      columns: ["status", "amount"],
      with: {
        customer: {
          from: `${schema}.customers`,
          columns: ["name", "email"],
          on: { id: "customer_id" },
          with: { referrer: { from: `${schema}.customers`, columns: ["name"], on: { id: "referrer_id" } } },
        },
        items: {
          ...items,
          columns: ["line_no", "quantity"],
          orderBy: ["line_no"],
          limit: 3,
          with: { product: { from: `${schema}.products`, columns: ["sku", "title"], on: { id: "product_id" } } },
        },
        tags: {
          from: `${schema}.tags`,
          many: true,
          through: { from: `${schema}.order_tags`, on: { order_id: "id" } },
          on: { id: "tag_id" },
          value: "name",
          orderBy: ["-name"],
        },
      },
    },
    people: {
      from: `${schema}.customers`,
      with: {
        orders: {
          from: `${schema}.orders`,
          many: true,
          on: { customer_id: "id" },
          columns: ["id", "status"],
          with: {
            items,
            // A table in between below the root, and rows below that.
            tags: {
              from: `${schema}.tags`,
              many: true,
              through: { from: `${schema}.order_tags`, on: { order_id: "id" } },
              on: { id: "tag_id" },
              columns: ["name"],
              with: { product: { from: `${schema}.products`, columns: ["sku"], on: { id: "id" } } },
            },
          },
        },
      },
    },
  };
}

const CUSTOMERS = 8;
const ORDERS = 30;
const PRODUCTS = 6;
const TAGS = 5;
/** Tables that a document has all columns of. */
const WIDE = ["customers", "order_items"];
const LARGE_ITEMS = 50;
/** Tables change so seldom: a document with all columns makes the daemon begin again when they come. */
const TABLES_EVERY_MS = 2_500;

/** Disposed before its database is: it ends its transaction first. */
export class HostileShop implements AsyncDisposable {
  readonly #database: ShopDatabase;
  readonly #random: Random;
  #line = 100;
  #column = 0;
  #tablesMs = 0;
  #stop = stopped();
  #running: Promise<void> = Promise.resolve();
  /** What it did last, for whoever has to find out why. */
  readonly did: string[] = [];

  constructor(database: ShopDatabase, random: Random) {
    this.#database = database;
    this.#random = random;
  }

  /** Rows to begin with. */
  async fill(): Promise<void> {
    const { below } = bound(this.#random);
    const rows = (count: number, of: (i: number) => string): string =>
      Array.from({ length: count }, (_, i) => `(${of(i + 1)})`).join(", ");
    await this.#database.transact([
      `insert into customers values ${rows(CUSTOMERS, (i) => `${i}, 'c${i}', ${i % 3 === 0 ? "null" : `'c${i}@x'`}, ${i % 2 === 0 ? "null" : String(1 + below(CUSTOMERS))}`)}`,
      `insert into products values ${rows(PRODUCTS, (i) => `${i}, 'sku${i}', 'title ${i}'`)}`,
      `insert into tags values ${rows(TAGS, (i) => `${i}, 'tag${i}'`)}`,
      `insert into orders values ${rows(ORDERS, (i) => `${i}, ${1 + below(CUSTOMERS)}, 'new', ${i}.50`)}`,
      `insert into order_items (order_id, line_no, product_id, quantity) values ${rows(ORDERS * 3, (i) => `${1 + (i % ORDERS)}, ${i}, ${1 + below(PRODUCTS + 1)}, ${i}`)}`,
      `insert into order_tags values ${rows(ORDERS * 2, (i) => `${1 + (i % ORDERS)}, ${1 + ((i + Math.floor(i / ORDERS)) % TAGS)}`)}`,
    ]);
  }

  /** `changesTables`: now and then. */
  start(pauseMs: number, changesTables = true): void {
    if (!this.#stop.signal.aborted) return;
    this.#stop = new AbortController();
    const { signal } = this.#stop;
    const run = async (): Promise<void> => {
      while (!signal.aborted) {
        await this.step(changesTables);
        await sleep(pauseMs, undefined, { signal }).catch(() => undefined);
      }
    };
    this.#running = run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** One transaction, of rows, or now and then of tables. */
  async step(changesTables: boolean): Promise<void> {
    const isTurn = changesTables && performance.now() - this.#tablesMs > TABLES_EVERY_MS;
    if (isTurn) this.#tablesMs = performance.now();
    const statements = isTurn ? await this.#tables() : this.#rows();
    this.did.push(statements.slice(0, 4).join("; ").slice(0, 300));
    if (this.did.length > 40) this.did.shift();
    await this.#database.transact(statements);
  }

  /** 2,000 changes of rows below one order, in one transaction. */
  async flood(): Promise<void> {
    const order = this.#order();
    const lines = Array.from({ length: LARGE_ITEMS }, () => `(${order}, ${this.#line++}, 1, 0)`).join(", ");
    const change = `update order_items set quantity = quantity + 1 where order_id = ${order}`;
    await this.#database.transact([
      `delete from order_items where order_id = ${order}`,
      `insert into order_items (order_id, line_no, product_id, quantity) values ${lines}`,
      ...Array.from({ length: 2_000 / LARGE_ITEMS }, () => change),
      `delete from order_items where order_id = ${order} and line_no < ${this.#line - 5}`,
    ]);
  }

  #order(): number {
    return 1 + this.#random.below(ORDERS);
  }

  #item(order: number): string {
    const { below } = bound(this.#random);
    return `insert into order_items (order_id, line_no, product_id, quantity) values (${order}, ${this.#line++}, ${1 + below(PRODUCTS + 1)}, ${below(100)})`;
  }

  #rows(): readonly string[] {
    const { below, pick, chance } = bound(this.#random);
    const [order, other] = [this.#order(), this.#order()];
    const customer = 1 + below(CUSTOMERS);
    const made = (id: number): string =>
      `insert into orders values (${id}, ${1 + below(CUSTOMERS)}, 'again${below(100)}', ${below(1000)}.25)`;
    const person = (id: number): string =>
      `insert into customers (id, name, email, referrer_id) values (${id}, 'p${below(100)}', null, ${1 + below(CUSTOMERS)})`;
    const changes: readonly (() => readonly string[])[] = [
      () => [`update order_items set order_id = ${other} where order_id = ${order}`],
      () => [
        `update order_items set line_no = line_no + 10000 where order_id = ${order}`,
        this.#item(order),
        this.#item(other),
      ],
      () => [`update order_items set quantity = quantity + 1 where order_id in (${order}, ${other})`],
      () => [`delete from order_items where order_id = ${order}`],
      // Rows are there before their parents, and stay behind.
      () => [`delete from orders where id = ${order}`],
      () => [`delete from orders where id = ${order}`, made(order)],
      () => [
        `delete from orders where id = ${order}`,
        made(order),
        this.#item(order),
        `delete from order_tags where order_id = ${order}`,
      ],
      // A key that goes away and comes back, children with it or not.
      () => [`delete from orders where id = ${other}`, `update orders set id = ${other} where id = ${order}`],
      () => [
        `delete from orders where id = ${other}`,
        `update orders set id = ${other} where id = ${order}`,
        `update order_items set order_id = ${other} where order_id = ${order}`,
        `delete from order_tags where order_id = ${other}`,
        `update order_tags set order_id = ${other} where order_id = ${order}`,
      ],
      () => [
        `update orders set customer_id = ${chance(0.2) ? "null" : String(customer)}, status = 'moved' where id = ${order}`,
      ],
      () => [`update customers set name = 'n${below(1000)}' where id = ${customer}`],
      () => [
        `update customers set referrer_id = ${1 + below(CUSTOMERS)}, email = 'e${below(100)}' where id in (${customer}, ${1 + below(CUSTOMERS)})`,
      ],
      () => [`delete from customers where id = ${customer}`],
      () => [`delete from customers where id = ${customer}`, person(customer)],
      () => [`update products set title = 't${below(1000)}', sku = 's${below(10)}' where id = ${1 + below(PRODUCTS)}`],
      () => {
        const product = 1 + below(PRODUCTS + 1);
        return [
          `delete from products where id = ${product}`,
          ...(chance(0.6) ? [`insert into products values (${product}, 'new', null)`] : []),
        ];
      },
      () => [`update tags set name = 'tag${below(20)}' where id = ${1 + below(TAGS)}`],
      () => {
        const tag = 1 + below(TAGS);
        return [
          `delete from tags where id = ${tag}`,
          ...(chance(0.7) ? [`insert into tags values (${tag}, 'tag${below(20)}')`] : []),
        ];
      },
      () => [
        `delete from order_tags where order_id in (${order}, ${other})`,
        `insert into order_tags values (${order}, ${1 + below(TAGS)})`,
      ],
      () => {
        const tag = 1 + below(TAGS);
        const to = 1 + (tag % TAGS);
        return [
          `delete from order_tags where tag_id = ${to}`,
          `update order_tags set tag_id = ${to} where tag_id = ${tag}`,
        ];
      },
      () => [
        `delete from order_tags where order_id = ${other}`,
        `update order_tags set order_id = ${other} where order_id = ${order}`,
      ],
      // Orders of a customer that leaves and comes back with another key.
      () => {
        const to = 1 + below(CUSTOMERS);
        return [
          `delete from customers where id = ${to}`,
          `update customers set id = ${to} where id = ${customer}`,
          ...(chance(0.5) ? [`update orders set customer_id = ${to} where customer_id = ${customer}`] : []),
        ];
      },
    ];
    const missing: readonly (() => readonly string[])[] = [
      () => [`delete from orders where id = ${order}`, made(order), this.#item(order), this.#item(order)],
      () => [`delete from customers where id = ${customer}`, person(customer)],
    ];
    const one = pick(chance(0.25) ? missing : changes)();
    return chance(0.2) ? [...one, ...pick(changes)()] : one;
  }

  /** Each level is emptied, and columns come, change and go. */
  async #tables(): Promise<readonly string[]> {
    const { below, pick, chance } = bound(this.#random);
    if (chance(0.25)) {
      const table = pick(["order_items", "order_tags", "products", "tags", "customers", "orders"]);
      const rows = Array.from({ length: 5 }, (_, i) => i + 1);
      const filled: Readonly<Record<string, () => readonly string[]>> = {
        order_items: () => rows.map(() => this.#item(this.#order())),
        order_tags: () => rows.map((i) => `insert into order_tags values (${i}, ${1 + below(TAGS)})`),
        products: () => rows.map((i) => `insert into products values (${i}, 'z', 'z')`),
        tags: () => rows.map((i) => `insert into tags values (${i}, 'z${i}')`),
        customers: () => rows.map((i) => `insert into customers (id, name) values (${i}, 'z')`),
        orders: () => rows.map((i) => `insert into orders values (${i}, ${i}, 'z', 1)`),
      };
      return [`truncate table ${table}`, ...filled[table]!()];
    }
    const table = pick(WIDE);
    const there = (await columnsOf(this.#database, table)).filter((name) => name.startsWith("extra"));
    const fresh = `extra_${this.#column++}`;
    const isPostgres = this.#database.dialect === "postgres";
    const add = pick([`${fresh} int default 7`, `${fresh} int`, `${fresh} varchar(40) default 'new'`]);
    if (there.length === 0 || (there.length < 3 && chance(0.4))) return [`alter table ${table} add column ${add}`];
    const old = pick(there);
    return pick([
      [`alter table ${table} drop column ${old}`],
      [`alter table ${table} rename column ${old} to ${fresh}`],
      isPostgres
        ? [`alter table ${table} alter column ${old} type text using ${old}::text`]
        : [`alter table ${table} modify ${old} varchar(80)`],
      [`update ${table} set ${old} = '${below(90)}'`],
      [
        `alter table ${table} add column ${fresh} int default 3`,
        `update ${table} set ${fresh} = 4`,
        this.#item(this.#order()),
      ],
    ]);
  }
}

function stopped(): AbortController {
  const controller = new AbortController();
  controller.abort();
  return controller;
}

/** Methods of the generator as functions. */
function bound(random: Random): Pick<Random, "below" | "pick" | "chance"> {
  return {
    below: (limit) => random.below(limit),
    pick: (items) => random.pick(items),
    chance: (probability) => random.chance(probability),
  };
}

async function columnsOf(database: ShopDatabase, table: string): Promise<readonly string[]> {
  const schema = database.dialect === "postgres" ? "current_schema()" : "database()";
  const rows = await database.texts(
    `select column_name from information_schema.columns where table_schema = ${schema} and table_name = '${table}' order by ordinal_position`,
  );
  return rows.map(([name]) => name ?? "");
}

export type Documents = Readonly<Record<"orders" | "people", readonly Record<string, unknown>[]>>;

/** By the source's own SQL, in the order of their keys. */
export async function expectedDocuments(database: ShopDatabase): Promise<Documents> {
  const isPostgres = database.dialect === "postgres";
  const object = (alias: string, columns: readonly string[]): string =>
    `${isPostgres ? "jsonb_build_object" : "json_object"}(${columns.map((name) => `'${name}', ${alias}.${name}`).join(", ")}`;
  const list = (json: string, rest: string, order: string): string =>
    isPostgres
      ? `coalesce((select jsonb_agg(${json} order by ${order}) ${rest}), '[]')`
      : `json_extract(concat('[', coalesce((select group_concat(${json} order by ${order} separator ',') ${rest}), ''), ']'), '$')`;
  const [people, items] = [await columnsOf(database, "customers"), await columnsOf(database, "order_items")];
  const lines = list(`${object("i", items)})`, "from order_items i where i.order_id = o.id", "i.order_id, i.line_no");
  const product = `(select ${object("p", ["sku"])}) from products p where p.id = t.id)`;
  const tags = list(
    `${object("t", ["name"])}, 'product', ${product})`,
    "from order_tags ot join tags t on t.id = ot.tag_id where ot.order_id = o.id",
    "t.id",
  );
  const orders = list(
    `${object("o", ["id", "status"])}, 'items', ${lines}, 'tags', ${tags})`,
    "from orders o where o.customer_id = c.id",
    "o.id",
  );
  const wide = `select c.id, ${object("c", people)}, 'orders', ${orders}) from customers c order by c.id`;
  const parsed = async (sql: string): Promise<readonly Record<string, unknown>[]> =>
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- an object by its statement
    (await database.texts(sql)).map((row) => JSON.parse(row[1] ?? "null") as Record<string, unknown>);
  if (!isPostgres) await database.transact(["set session group_concat_max_len = 10000000"]);
  return { orders: await parsed(isPostgres ? POSTGRES_DOCUMENTS : MYSQL_DOCUMENTS), people: await parsed(wide) };
}

const RELATIONS = new Set(["customer", "items", "tags", "orders"]);

/** Rows of a table of documents, with the columns that the documents have: a warehouse may keep former ones. */
export function ofRows(
  rows: readonly Record<string, unknown>[],
  wanted: readonly Record<string, unknown>[],
): unknown[] {
  const names = new Set(wanted.flatMap((one) => Object.keys(one)));
  return rows.map((row) =>
    Object.fromEntries(
      [...names].map((name) => {
        const value = row[name] ?? null;
        const isText = RELATIONS.has(name) && typeof value === "string";
        return [name, isText ? (JSON.parse(value) as unknown) : value];
      }),
    ),
  );
}

/** Documents with each plain value as its text: drivers print numbers each in another way. */
function plain(documents: readonly Record<string, unknown>[]): unknown[] {
  return documents.map((one) =>
    Object.fromEntries(
      Object.entries(one).map(([name, value]) => [
        name,
        typeof value === "number" || typeof value === "bigint" ? String(value) : value,
      ]),
    ),
  );
}

export type DocumentReader = (
  name: "orders" | "people",
  wanted: readonly Record<string, unknown>[],
) => Promise<readonly unknown[]>;

export function readSqlite(path: string): DocumentReader {
  return async (name, wanted) => {
    using file = new DatabaseSync(path, { readOnly: true });
    const statement = file.prepare(`select * from "documents.${name}" order by id`);
    // A version is too large for a number.
    statement.setReadBigInts(true);
    return ofRows(statement.all(), wanted);
  };
}

export function readPostgres(
  query: (sql: string) => Promise<{ readonly rows: readonly Record<string, unknown>[] }>,
): DocumentReader {
  return async (name, wanted) => ofRows((await query(`select * from documents.${name} order by id`)).rows, wanted);
}

export function readRedis(url: string, prefix: string): DocumentReader {
  return async (name) => {
    const client = new Redis(url);
    try {
      const keys = await client.keys(`${prefix}${name}:*`);
      const texts = keys.length === 0 ? [] : await client.mget(keys);
      return texts
        .map((text): Record<string, unknown> => Object(JSON.parse(text ?? "null")))
        .map((one) => Object.fromEntries(Object.entries(one).filter(([field]) => !field.startsWith("_millrace"))))
        .toSorted((a, b) => Number(a["id"]) - Number(b["id"]));
    } finally {
      client.disconnect();
    }
  };
}

export function readSearch(url: string, prefix: string): DocumentReader {
  return async (name) => await documentsInSearch(url, `${prefix}${name}`);
}

/** Each reader finds what the source's own SQL makes. */
export async function expectDocuments(
  database: ShopDatabase,
  readers: Readonly<Record<string, DocumentReader>>,
  context: string,
): Promise<void> {
  const wanted = await expectedDocuments(database);
  for (const [sink, read] of Object.entries(readers)) {
    for (const name of ["orders", "people"] as const) {
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- each is an object
      const found = plain((await read(name, wanted[name])) as readonly Record<string, unknown>[]);
      expect(found, `${sink} ${name}: ${context}`).toEqual(plain(wanted[name]));
    }
  }
}
