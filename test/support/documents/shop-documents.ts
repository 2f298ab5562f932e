/** Documents three levels deep with a table in between, and what the source's own SQL makes of the same rows. */
import { DatabaseSync } from "node:sqlite";
import type { Redis } from "ioredis";
import { expect } from "vitest";
import * as z from "zod";

/** For Postgres, MySQL and MariaDB. MySQL takes a foreign key beside its column for a comment. */
export const SHOP_TABLES = [
  "create table customers (id int primary key, name varchar(60) not null, email varchar(60), referrer_id int, foreign key (referrer_id) references customers (id))",
  "create table orders (id int primary key, customer_id int, status varchar(20) not null, amount numeric(12,2), foreign key (customer_id) references customers (id))",
  "create table products (id int primary key, sku varchar(20) not null, title varchar(60))",
  "create table order_items (order_id int not null, line_no int not null, product_id int, quantity int not null, primary key (order_id, line_no), foreign key (order_id) references orders (id) on update cascade, foreign key (product_id) references products (id))",
  "create table tags (id int primary key, name varchar(30) not null)",
  "create table order_tags (order_id int not null, tag_id int not null, primary key (order_id, tag_id), foreign key (order_id) references orders (id) on update cascade, foreign key (tag_id) references tags (id))",
];

/** `schema`: of the tables. */
export function shopDocuments(schema: string): object {
  return {
    orders: {
      from: `${schema}.orders`,
      columns: ["status", "amount"],
      with: {
        customer: {
          from: `${schema}.customers`,
          columns: ["name", "email"],
          with: { referrer: { from: `${schema}.customers`, columns: ["name"], on: { id: "referrer_id" } } },
        },
        items: {
          from: `${schema}.order_items`,
          many: true,
          columns: ["line_no", "quantity"],
          orderBy: ["line_no"],
          limit: 3,
          with: { product: { from: `${schema}.products`, columns: ["sku", "title"] } },
        },
        tags: {
          from: `${schema}.tags`,
          many: true,
          through: `${schema}.order_tags`,
          value: "name",
          orderBy: ["-name"],
        },
      },
    },
  };
}

/** One text for each document, by its key. */
export const POSTGRES_DOCUMENTS = `select o.id, jsonb_build_object('id', o.id, 'status', o.status, 'amount', o.amount::text,
  'customer', (select jsonb_build_object('name', c.name, 'email', c.email,
    'referrer', (select jsonb_build_object('name', r.name) from customers r where r.id = c.referrer_id)) from customers c where c.id = o.customer_id),
  'items', coalesce((select jsonb_agg(x.j order by x.line_no) from (select i.line_no, jsonb_build_object('line_no', i.line_no, 'quantity', i.quantity,
    'product', (select jsonb_build_object('sku', p.sku, 'title', p.title) from products p where p.id = i.product_id)) as j
    from order_items i where i.order_id = o.id order by i.line_no limit 3) x), '[]'),
  'tags', coalesce((select jsonb_agg(t.name order by t.name collate "C" desc, t.id) from order_tags ot join tags t on t.id = ot.tag_id where ot.order_id = o.id), '[]')) as document
  from orders o order by o.id`;

/** The same in MySQL and MariaDB. */
export const MYSQL_DOCUMENTS = `select o.id, cast(json_object('id', o.id, 'status', o.status, 'amount', cast(o.amount as char),
  'customer', (select json_object('name', c.name, 'email', c.email,
    'referrer', (select json_object('name', r.name) from customers r where r.id = c.referrer_id)) from customers c where c.id = o.customer_id),
  'items', json_extract(concat('[', coalesce((select group_concat(json_object('line_no', i.line_no, 'quantity', i.quantity,
    'product', (select json_object('sku', p.sku, 'title', p.title) from products p where p.id = i.product_id)) order by i.line_no separator ',')
    from order_items i where i.order_id = o.id and
      (select count(*) from order_items e where e.order_id = i.order_id and e.line_no < i.line_no) < 3), ''), ']'), '$'),
  'tags', json_extract(concat('[', coalesce((select group_concat(json_quote(t.name) order by t.name desc separator ',')
    from order_tags ot join tags t on t.id = ot.tag_id where ot.order_id = o.id), ''), ']'), '$')) as char) as document
  from orders o order by o.id`;

/** What a SQLite sink of documents has. */
export function documentsInSqlite(path: string): unknown[] {
  using file = new DatabaseSync(path, { readOnly: true });
  const rows = file
    .prepare(`select id, status, amount, customer, items, tags from "documents.orders" order by id`)
    .all();
  return rows.map(({ customer, items, tags, ...root }) => ({
    ...root,
    customer: parsed(customer),
    items: parsed(items),
    tags: parsed(tags),
  }));
}

function parsed(text: unknown): unknown {
  return typeof text === "string" ? JSON.parse(text) : null;
}

/** In any order of the fields. */
export function expectSame(found: readonly unknown[], wanted: readonly unknown[]): void {
  expect(found.length).toBe(wanted.length);
  for (const [i, one] of wanted.entries()) expect(found[i]).toEqual(one);
}

const FIELDS = z.record(z.string(), z.unknown());
const FOUND = z.object({ hits: z.object({ hits: z.array(z.object({ _source: FIELDS })) }) });

/** What an index of documents has, without Millrace's own fields. */
export async function documentsInSearch(url: string, index: string): Promise<unknown[]> {
  await fetch(`${url}/${index}/_refresh`, { method: "POST" });
  const answer = await fetch(`${url}/${index}/_search?size=10000`);
  const { hits } = FOUND.parse(await answer.json());
  return inOrder(hits.hits.map(({ _source }) => _source));
}

/** What keys of documents have, in `format: json`. */
export async function documentsInRedis(redis: Redis, prefix: string): Promise<unknown[]> {
  const keys = await redis.keys(`${prefix}orders:*`);
  const texts = keys.length === 0 ? [] : await redis.mget(keys);
  return inOrder(texts.map((text) => FIELDS.parse(parsed(text))));
}

function inOrder(found: readonly Record<string, unknown>[]): unknown[] {
  const own = (name: string): boolean => name.startsWith("_millrace_");
  return found
    .map((one) => Object.fromEntries(Object.entries(one).filter(([name]) => !own(name))))
    .toSorted((a, b) => Number(a["id"]) - Number(b["id"]));
}
