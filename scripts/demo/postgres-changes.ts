/** The kinds of transactions in the shop on Postgres, including everything that is hard to capture. */
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

/** Several tables, and one stock row twice. */
async function placeOrder(changes: Changes): Promise<number> {
  const { query, size } = changes;
  const customer = upTo(changes, size.customers);
  const lines = upTo(changes, 4);
  const order = await query(
    "insert into orders (customer_id, status, note) select id, 'new', $2 from customers where id = $1 returning id",
    [customer, changes.random() < 0.1 ? 'gift: "müller" \\ 100%' : null],
  );
  const id = order.rows[0]?.["id"];
  if (id === undefined) return 0;
  const items = await query(
    `insert into order_items (order_id, line, product_id, quantity, price)
     select $1, n, p.id, 1 + n, p.price from generate_series(1, $2::int) as n join products p on p.id = 1 + ($3::int + n * 37) % $4::int`,
    [id, lines, upTo(changes, size.products), size.products],
  );
  const stock = await query(
    `update stock s set quantity = s.quantity - i.quantity from order_items i
     where i.order_id = $1 and s.product_id = i.product_id and s.warehouse = 'Berlin'`,
    [id],
  );
  const total = await query(
    "update orders set total = (select sum(quantity * price) from order_items where order_id = $1) where id = $1",
    [id],
  );
  return 1 + items.rowCount + stock.rowCount + total.rowCount;
}

async function shipOrder(changes: Changes): Promise<number> {
  const { query, size } = changes;
  const from = upTo(changes, size.orders);
  const shipped = await query(
    `update orders set status = 'shipped', shipped_at = clock_timestamp()
     where id = (select id from orders where id >= $1 order by id limit 1) returning id, total`,
    [from],
  );
  const [row] = shipped.rows;
  if (row === undefined) return 0;
  const paid = await query("insert into payments (order_id, amount, method, details) values ($1, $2, 'card', $3)", [
    row["id"],
    row["total"],
    JSON.stringify({ last4: from % 10_000, fee: 0.25 }),
  ]);
  return shipped.rowCount + paid.rowCount;
}

/** An update that does not touch the TOASTed description, so the log does not carry it. */
async function changePrice(changes: Changes): Promise<number> {
  const { rowCount } = await changes.query(
    "update products set price = price * 1.01 + 0.05, updated_at = clock_timestamp() where id = $1",
    [upTo(changes, changes.size.products)],
  );
  return rowCount;
}

async function rewriteDescription(changes: Changes): Promise<number> {
  const { rowCount } = await changes.query(
    `update products set description = (select string_agg(md5($2 || i), ' ') from generate_series(1, 80) as i),
       attributes = attributes || jsonb_build_object('rev', $2::text) where id = $1`,
    [upTo(changes, changes.size.products), String(changes.random())],
  );
  return rowCount;
}

/** Many rows in one statement, all without their TOASTed column in the log. */
async function sale(changes: Changes): Promise<number> {
  const from = upTo(changes, changes.size.products);
  const { rowCount } = await changes.query(
    "update products set price = price * 0.99, tags = tags || 'sale'::text where id between $1 and $1 + 499 and cardinality(tags) < 8",
    [from],
  );
  return rowCount;
}

async function changeCustomer(changes: Changes): Promise<number> {
  const { rowCount } = await changes.query(
    `update customers set tier = (enum_range(null::customer_tier))[$2], address = coalesce(address, '{}') || $3::jsonb,
       phones = array_remove(phones, null) where id = $1`,
    [upTo(changes, changes.size.customers), upTo(changes, 3), JSON.stringify({ floor: upTo(changes, 9), door: null })],
  );
  return rowCount;
}

async function signUp(changes: Changes): Promise<number> {
  const { rowCount } = await changes.query(
    "insert into customers (email, name, phones) values ('n' || gen_random_uuid() || '@example.com', $1, $2)",
    [`New ${upTo(changes, 1_000)}`, ["+33 1", ""]],
  );
  return rowCount;
}

/** One key twenty times in a transaction. */
async function countStock(changes: Changes): Promise<number> {
  const product = upTo(changes, changes.size.products);
  let rowCount = 0;
  for (let step = 0; step < 20; step++) {
    const result = await changes.query(
      "update stock set quantity = quantity + $2, counted_at = clock_timestamp() where product_id = $1 and warehouse = '横浜'",
      [product, step],
    );
    rowCount += result.rowCount;
  }
  return rowCount;
}

/** Items and payments are deleted by cascade. */
async function cancelOrder(changes: Changes): Promise<number> {
  const { rowCount } = await changes.query(
    "delete from orders where id = (select id from orders where id >= $1 order by id limit 1)",
    [upTo(changes, changes.size.orders)],
  );
  return rowCount;
}

/** The primary key changes. */
async function renameCoupon(changes: Changes): Promise<number> {
  const { rowCount } = await changes.query(
    "update coupons set code = 'MOVED ' || gen_random_uuid(), uses = uses + 1 where code = (select code from coupons offset $1 limit 1)",
    [upTo(changes, changes.size.coupons) - 1],
  );
  return rowCount;
}

/** Deleted and inserted again under its key. */
async function replaceCoupon(changes: Changes): Promise<number> {
  const gone = await changes.query(
    "delete from coupons where code = (select code from coupons offset $1 limit 1) returning code, percent",
    [upTo(changes, changes.size.coupons) - 1],
  );
  const [row] = gone.rows;
  if (row === undefined) return 0;
  const back = await changes.query("insert into coupons (code, percent, uses) values ($1, $2, -1)", [
    row["code"],
    row["percent"],
  ]);
  return gone.rowCount + back.rowCount;
}

/** Two rows swap keys through a third key that exists only inside the transaction. */
async function swapCoupons(changes: Changes): Promise<number> {
  const { rows } = await changes.query("select code from coupons order by md5(code || $1) limit 2", [
    String(changes.random()),
  ]);
  const [a, b] = rows.map((row) => row["code"]);
  if (a === undefined || b === undefined) return 0;
  const rename = "update coupons set code = $2 where code = $1";
  await changes.query(rename, [a, "on its way"]);
  await changes.query(rename, [b, a]);
  await changes.query(rename, ["on its way", b]);
  return 3;
}

/** The rollback undoes everything after the savepoint. */
async function giveUpHalfWay(changes: Changes): Promise<number> {
  const kept = await shipOrder(changes);
  await changes.query("savepoint before");
  await placeOrder(changes);
  await changes.query("update customers set name = 'never' where id between $1 and $1 + 20", [
    upTo(changes, changes.size.customers),
  ]);
  await changes.query("rollback to savepoint before");
  return kept + (await changeCustomer(changes));
}

async function giveUp(changes: Changes): Promise<number> {
  await placeOrder(changes);
  await cancelOrder(changes);
  return ROLLED_BACK;
}

async function changeCart(changes: Changes): Promise<number> {
  const { rowCount } = await changes.query(
    `insert into carts (customer_id, product_id, quantity) select c.id, p.id, 1 from customers c, products p
     where c.id = $1 and p.id = $2 on conflict (customer_id, product_id) do update set quantity = carts.quantity + 1`,
    [upTo(changes, changes.size.customers), upTo(changes, changes.size.products)],
  );
  return rowCount;
}

/** TRUNCATE between rows of the same table, in one transaction. */
async function snapshotCarts(changes: Changes): Promise<number> {
  const before = await changeCart(changes);
  await changes.query("truncate carts");
  const after = await changes.query(
    `insert into carts (customer_id, product_id, quantity) select c.id, p.id, 2 from customers c join products p on p.id = c.id
     where c.id between $1 and $1 + 30`,
    [upTo(changes, Math.min(changes.size.products, changes.size.customers))],
  );
  return before + after.rowCount;
}
