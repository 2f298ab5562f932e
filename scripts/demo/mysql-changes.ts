/** The kinds of transactions in the shop on MySQL and MariaDB, including everything that is hard to capture. */
import { type ChangeMix, type Changes, ROLLED_BACK, upTo } from "./changes.ts";

export const mix: ChangeMix = {
  placeOrder,
  shipOrder,
  changePrice,
  changeCustomer,
  signUp,
  countStock,
  cancelOrder,
  renameCoupon,
  replaceCoupon,
  rewriteDescription,
  giveUpHalfWay,
  giveUp,
  swapCoupons,
  changeCart,
  snapshotCarts,
  sale,
};

type Statement = readonly [sql: string, values?: readonly unknown[]];

/** Runs the statements in order; returns how many rows they changed. */
async function all({ query }: Changes, ...statements: readonly Statement[]): Promise<number> {
  let rowCount = 0;
  for (const [sql, values] of statements) rowCount += (await query(sql, values)).rowCount;
  return rowCount;
}

/** Several tables, and one stock row twice. */
async function placeOrder(changes: Changes): Promise<number> {
  const { query, random, size } = changes;
  const note = random() < 0.1 ? 'gift: "müller" \\ 100% 😀' : null;
  const placed = await query(
    "insert into orders (customer_id, status, note) select id, 'new', ? from customers where id = ?",
    [note, upTo(changes, size.customers)],
  );
  const [row] = (await query("select last_insert_id() as id")).rows;
  const id = row?.["id"];
  const lines = Array.from({ length: upTo(changes, 4) }, (_, i) => i + 1);
  const chosen = upTo(changes, size.products);
  const items = lines.map((line): Statement => [
    "insert into order_items (order_id, line, product_id, quantity, price) select ?, ?, id, ?, price from products where id = ?",
    [id, line, line + 1, 1 + ((chosen + line * 37) % size.products)],
  ]);
  const others = await all(
    changes,
    ...items,
    [
      `update stock s join order_items i on i.product_id = s.product_id set s.quantity = s.quantity - i.quantity
       where i.order_id = ? and s.warehouse = 'Berlin'`,
      [id],
    ],
    [
      "update orders set total = (select sum(quantity * price) from order_items where order_id = ?) where id = ?",
      [id, id],
    ],
  );
  return placed.rowCount + others;
}

async function someOrder({ query }: Changes, from: number): Promise<unknown> {
  const { rows } = await query("select id from orders where id >= ? order by id limit 1", [from]);
  return rows[0]?.["id"];
}

async function shipOrder(changes: Changes): Promise<number> {
  const from = upTo(changes, changes.size.orders);
  const id = await someOrder(changes, from);
  if (id === undefined) return 0;
  const details = JSON.stringify({ last4: from % 10_000, fee: 0.25 });
  return all(
    changes,
    ["update orders set status = 'shipped', shipped_at = current_timestamp(3) where id = ?", [id]],
    [
      "insert into payments (id, order_id, amount, method, details, token) select uuid(), id, total, 'card', ?, ? from orders where id = ?",
      [details, from, id],
    ],
  );
}

function changePrice(changes: Changes): Promise<number> {
  return all(changes, [
    "update products set price = price * 1.01 + 0.05, updated_at = current_timestamp(6) where id = ?",
    [upTo(changes, changes.size.products)],
  ]);
}

function rewriteDescription(changes: Changes): Promise<number> {
  const revision = String(changes.random());
  return all(changes, [
    "update products set description = repeat(sha2(?, 256), 40), attributes = json_set(attributes, '$.rev', ?) where id = ?",
    [revision, revision, upTo(changes, changes.size.products)],
  ]);
}

/** Many rows of one statement. */
function sale(changes: Changes): Promise<number> {
  const from = upTo(changes, changes.size.products);
  return all(changes, ["update products set price = price * 0.99 where id between ? and ? + 499", [from, from]]);
}

function changeCustomer(changes: Changes): Promise<number> {
  const floor = upTo(changes, 9);
  return all(changes, [
    "update customers set tier = ?, wishes = ?, address = json_set(coalesce(address, '{}'), '$.floor', ?, '$.door', null) where id = ?",
    [upTo(changes, 3), floor % 8, floor, upTo(changes, changes.size.customers)],
  ]);
}

function signUp(changes: Changes): Promise<number> {
  const name = `New ${upTo(changes, 1_000)}`;
  return all(changes, ["insert into customers (email, name) values (concat('n', uuid(), '@example.com'), ?)", [name]]);
}

/** One key twenty times in a transaction. */
function countStock(changes: Changes): Promise<number> {
  const product = upTo(changes, changes.size.products);
  const step = (_: unknown, count: number): Statement => [
    "update stock set quantity = quantity + ?, counted_at = current_timestamp(6) where product_id = ? and warehouse = '横浜'",
    [count, product],
  ];
  return all(changes, ...Array.from({ length: 20 }, step));
}

async function cancelOrder(changes: Changes): Promise<number> {
  const id = await someOrder(changes, upTo(changes, changes.size.orders));
  if (id === undefined) return 0;
  return all(
    changes,
    ["delete from payments where order_id = ?", [id]],
    ["delete from order_items where order_id = ?", [id]],
    ["delete from orders where id = ?", [id]],
  );
}

async function someCoupons(changes: Changes, count: number): Promise<readonly unknown[]> {
  const from = upTo(changes, changes.size.coupons) - 1;
  const { rows } = await changes.query("select code from coupons order by code limit ? offset ?", [count, from]);
  return rows.map((row) => row["code"]);
}

/** The primary key changes. */
async function renameCoupon(changes: Changes): Promise<number> {
  const [code] = await someCoupons(changes, 1);
  return all(changes, ["update coupons set code = concat('MOVED ', uuid()), uses = uses + 1 where code = ?", [code]]);
}

/** Deleted and inserted again under its key. */
async function replaceCoupon(changes: Changes): Promise<number> {
  const [code] = await someCoupons(changes, 1);
  if (code === undefined) return 0;
  return all(
    changes,
    ["delete from coupons where code = ?", [code]],
    ["insert into coupons (code, percent, uses) values (?, 12.5, -1)", [code]],
  );
}

/** Two rows swap keys through a third key that exists only inside the transaction. */
async function swapCoupons(changes: Changes): Promise<number> {
  const [a, b] = await someCoupons(changes, 2);
  if (a === undefined || b === undefined) return 0;
  const rename = "update coupons set code = ? where code = ?";
  return all(changes, [rename, ["on its way", a]], [rename, [a, b]], [rename, [b, "on its way"]]);
}

/** The rollback undoes everything after the savepoint. */
async function giveUpHalfWay(changes: Changes): Promise<number> {
  const kept = await shipOrder(changes);
  await changes.query("savepoint half");
  await placeOrder(changes);
  const from = upTo(changes, changes.size.customers);
  await changes.query("update customers set name = 'never' where id between ? and ? + 20", [from, from]);
  await changes.query("rollback to savepoint half");
  return kept + (await changeCustomer(changes));
}

async function giveUp(changes: Changes): Promise<number> {
  await placeOrder(changes);
  await cancelOrder(changes);
  return ROLLED_BACK;
}

function changeCart(changes: Changes): Promise<number> {
  return all(changes, [
    `insert into carts (customer_id, product_id, quantity) select c.id, p.id, 1 from customers c, products p
     where c.id = ? and p.id = ? on duplicate key update quantity = carts.quantity + 1`,
    [upTo(changes, changes.size.customers), upTo(changes, changes.size.products)],
  ]);
}

/** TRUNCATE between rows of the same table; it ends the transaction before it. */
async function snapshotCarts(changes: Changes): Promise<number> {
  const from = upTo(changes, Math.min(changes.size.products, changes.size.customers));
  const before = await changeCart(changes);
  const after = await all(
    changes,
    ["truncate table carts"],
    [
      `insert into carts (customer_id, product_id, quantity) select c.id, p.id, 2 from customers c join products p on p.id = c.id
       where c.id between ? and ? + 30`,
      [from, from],
    ],
  );
  return before + after;
}
