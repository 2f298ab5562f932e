/** The shop on MySQL and MariaDB. */
import { createConnection, type ResultSetHeader } from "mysql2/promise";
import { mix } from "./mysql-changes.ts";
import { type Shop, type ShopSession, type ShopSize, WAREHOUSES } from "./shop.ts";

/** Text keys are compared exactly. */
const EXACT = "character set utf8mb4 collate utf8mb4_bin";

const SCHEMA = [
  `create table customers (
    id bigint auto_increment primary key,
    email varchar(200) not null unique,
    name varchar(100) character set utf8mb4 not null,
    nick varchar(40) character set latin1,
    tier enum('basic', 'silver', 'gold') not null default 'basic',
    wishes set('news', 'gift wrap', 'express') not null default '',
    address json,
    born date,
    since year,
    created_at timestamp(6) not null default current_timestamp(6)
  )`,
  `create table products (
    id int unsigned auto_increment primary key,
    sku varchar(20) not null unique,
    title varchar(100) not null,
    description text not null,
    price decimal(12,2) not null,
    weight_kg double,
    attributes json not null,
    picture varbinary(64),
    mark binary(4),
    updated_at datetime(6) not null default current_timestamp(6)
  )`,
  `create table stock (
    warehouse varchar(40) ${EXACT} not null,
    product_id int unsigned not null,
    quantity int not null,
    shelf smallint unsigned,
    counted_at datetime(6) not null default current_timestamp(6),
    primary key (warehouse, product_id),
    foreign key (product_id) references products (id)
  )`,
  `create table orders (
    id bigint auto_increment primary key,
    customer_id bigint not null,
    status enum('new', 'paid', 'packed', 'shipped', 'returned') not null default 'new',
    total decimal(14,2) not null default 0,
    note text character set utf8mb4,
    placed_at timestamp(6) not null default current_timestamp(6),
    shipped_at timestamp(3) null,
    key (customer_id),
    foreign key (customer_id) references customers (id)
  )`,
  `create table order_items (
    order_id bigint not null,
    line smallint not null,
    product_id int unsigned not null,
    quantity mediumint not null,
    price decimal(12,2) not null,
    discount float,
    is_gift bit(1) not null default 0,
    primary key (order_id, line),
    foreign key (order_id) references orders (id),
    foreign key (product_id) references products (id)
  )`,
  `create table payments (
    id char(36) ${EXACT} primary key,
    order_id bigint not null,
    amount decimal(30,6) not null,
    method varchar(20) not null,
    details json,
    token bigint unsigned,
    paid_at timestamp(6) not null default current_timestamp(6),
    foreign key (order_id) references orders (id)
  )`,
  `create table coupons (
    code varchar(80) ${EXACT} primary key,
    percent decimal(5,2),
    opens_at time,
    keeps time(2),
    days bit(7) not null default 0,
    uses int not null default 0
  )`,
  `create table carts (
    customer_id bigint not null,
    product_id int unsigned not null,
    quantity int not null,
    primary key (customer_id, product_id)
  )`,
];

export const mysqlShop: Shop = { mix, connect, schema: SCHEMA, fillings };

async function connect(url: string): Promise<ShopSession> {
  const connection = await createConnection({ uri: url, charset: "utf8mb4", timezone: "Z" });
  await connection.query("set time_zone = '+00:00'");
  return {
    async query(sql, values = []) {
      const [found] = await connection.query<Record<string, unknown>[] & ResultSetHeader>(sql, [...values]);
      return Array.isArray(found)
        ? { rowCount: found.length, rows: found }
        : { rowCount: (found as ResultSetHeader).affectedRows, rows: [] };
    },
    end: () => connection.end(),
  };
}

const DIGITS =
  "(select 0 as d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 union all select 6 union all select 7 union all select 8 union all select 9)";

function fillings({ customers, products, orders, coupons, carts }: ShopSize): string[] {
  const most = Math.max(customers, products, orders, coupons, carts);
  const powers = Array.from({ length: String(most).length }, (_, i) => i);
  const number = powers.map((i) => `t${i}.d * ${10 ** i}`).join(" + ");
  const warehouses = WAREHOUSES.map((name) => `select '${name}' as w`).join(" union all ");
  return [
    "create table numbers (n bigint primary key)",
    `insert into numbers select 1 + ${number} from ${powers.map((i) => `${DIGITS} as t${i}`).join(" cross join ")} where ${number} < ${most}`,
    `insert into customers (id, email, name, nick, tier, wishes, address, born, since, created_at)
     select n, concat('c', n, '@example.com'), concat(elt(1 + n % 5, 'Ada', 'Björn', 'Chloé', 'Đức', '陽子'), ' ', n),
       if(n % 3 = 0, null, concat('Zoë', n)), 1 + n % 3, n % 8,
       if(n % 11 = 0, null, json_object('city', concat('C', n % 97), 'zip', lpad(n, 5, '0'), 'geo', json_array(n / 8e0, -n / 4e0), 'line', null)),
       if(n % 13 = 0, null, date '1950-01-01' + interval n % 20000 day), 1990 + n % 40,
       timestamp '2020-01-01 00:00:00' + interval n * 1020000061 microsecond
     from numbers where n <= ${customers}`,
    `insert into products (id, sku, title, description, price, weight_kg, attributes, picture, mark, updated_at)
     select n, concat('SKU-', n), concat('Product ', n), repeat(sha2(n, 256), 45), (n % 9973) / 7, if(n % 50 = 0, null, n / 3e0),
       json_object('colour', n % 12, 'nested', json_object('ok', n % 2 = 0), 'text', 'ü "quoted"'),
       if(n % 5 = 0, unhex(sha2(n, 256)), null), unhex(if(n % 2, '0a00', '00')), timestamp '2024-01-01 00:00:00' + interval n second
     from numbers where n <= ${products}`,
    `insert into stock (warehouse, product_id, quantity, shelf)
     select w, n, n % 500, n % 256 from numbers, (${warehouses}) as houses where n <= ${products}`,
    `insert into orders (id, customer_id, status, total, note, placed_at, shipped_at)
     select n, 1 + (n * 7919) % ${customers}, 1 + n % 5, (n % 100000) / 3,
       case n % 20 when 0 then '' when 1 then 'two\\nlines "quoted" \\\\ ü' end,
       timestamp '2025-01-01 00:00:00' + interval n * 9 second,
       if(n % 5 >= 3, timestamp '2025-01-02 00:00:00' + interval n * 9 second, null)
     from numbers where n <= ${orders}`,
    `insert into order_items (order_id, line, product_id, quantity, price, discount, is_gift)
     select o.n, l.n, 1 + (o.n * 31 + l.n) % ${products}, 1 + o.n % 4, (o.n % 777) / 9, if(o.n % 6 = 0, 0.25, null), o.n % 9 = 0
     from numbers as o join numbers as l on l.n <= 1 + o.n % 3 where o.n <= ${orders}`,
    `insert into payments (id, order_id, amount, method, details, token, paid_at)
     select insert(insert(insert(insert(left(sha2(concat('payment ', n), 256), 32), 9, 0, '-'), 14, 0, '-'), 19, 0, '-'), 24, 0, '-'), n,
       (n % 100000) / 3, elt(1 + n % 3, 'card', 'transfer', 'cash'),
       if(n % 2 = 0, json_object('last4', n % 10000, 'tries', 1 + n % 3), null),
       18446744073709551615 - n, timestamp '2025-01-01 00:05:00' + interval n * 9 second
     from numbers where n <= ${orders} and n % 5 > 0`,
    `insert into coupons (code, percent, opens_at, keeps, days)
     select concat('SAVE:', n, '%'), n % 90, sec_to_time(28800 + n), sec_to_time(n * 3601 % 3000000), n % 128 from numbers where n <= ${coupons}`,
    `insert into carts (customer_id, product_id, quantity)
     select n, 1 + n % ${products}, n % 7 from numbers where n <= least(${carts}, ${customers})`,
    "drop table numbers",
  ];
}
