create table customers (id int primary key, name text not null, email text);
create table products (id int primary key, sku text not null, title text not null);
create table orders (id int primary key, customer_id int references customers, status text not null, placed_at timestamptz not null);
create table order_items (order_id int references orders, line_no int, product_id int references products,
  quantity int not null, price numeric(10,2) not null, primary key (order_id, line_no));
create table tags (id int primary key, name text not null);
create table order_tags (order_id int references orders, tag_id int references tags, primary key (order_id, tag_id));

insert into customers values (1, 'Ada', 'ada@example.com'), (2, 'Grace', 'grace@example.com');
insert into products values (1, 'A-1', 'Anvil'), (2, 'B-7', 'Bellows'), (3, 'T-3', 'Tongs');
insert into orders values (1, 1, 'paid', '2026-11-20 09:30+00'), (2, 2, 'draft', '2026-11-20 10:00+00');
insert into order_items values (1, 1, 1, 1, 250.00), (1, 2, 3, 2, 19.90), (2, 1, 2, 1, 99.00);
insert into tags values (1, 'gift'), (2, 'express');
insert into order_tags values (1, 1), (1, 2);
