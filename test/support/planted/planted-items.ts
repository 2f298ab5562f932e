/** Tables, faults that are planted in their rows in a warehouse, and what a comparison finds of them. */
export const ITEMS = `create table item (id int, part text, name text, note text, seen timestamptz, amount numeric(12,2), tags text[],
    body jsonb, primary key (id, part));
  insert into item select g, case g % 3 when 0 then '' else 'p:' || g end, 'n' || g, case g % 2 when 0 then '' end,
    '2026-11-20 06:43:15.123456+00', g * 1.01, array['a', null, 'b' || g], jsonb_build_object('n', g)
    from generate_series(1, 1500) g;
  create table moving (id int primary key, n int);
  insert into moving select g, 0 from generate_series(1, 1000) g`;

/** SQL that Postgres and DuckDB both read, and what is to be found of it. */
const FAULTS: readonly (readonly [sql: string, found: readonly string[]])[] = [
  ["update public.item set name = 'wrong' where id = 10", ["public.item 10 p:10 different name"]],
  ["update public.item set note = null where id = 12", ["public.item 12  different note"]],
  ["update public.item set note = '' where id = 13", ["public.item 13 p:13 different note"]],
  ["delete from public.item where id = 14", ["public.item 14 p:14 missing"]],
  [
    "insert into public.item (id, part, name, _millrace_version, _millrace_commit_time) values (15, 'stray', 'n', 1, now())",
    ["public.item 15 stray extra"],
  ],
  ["update public.item set name = name || ' ' where id = 16", ["public.item 16 p:16 different name"]],
  [
    "update public.item set seen = seen + interval '1 microsecond' where id = 17",
    ["public.item 17 p:17 different seen"],
  ],
  [
    "update public.item set name = case id when 18 then 'n19' else 'n18' end where id in (18, 19)",
    ["public.item 18  different name", "public.item 19 p:19 different name"],
  ],
  ["update public.item set name = note, note = name where id = 20", ["public.item 20 p:20 different name note"]],
  ["update public.item set amount = amount + 0.01 where id = 21", ["public.item 21  different amount"]],
  ["update public.item set tags = null where id = 22", ["public.item 22 p:22 different tags"]],
  [`update public.item set body = '{"n": 24}' where id = 23`, ["public.item 23 p:23 different body"]],
  [
    "update public.item set _millrace_version = 9223372036854775807 where id = 24",
    ["public.item 24  different _millrace_version"],
  ],
  [
    "update public.item set part = '', name = 'n' where id = 25",
    ["public.item 25  extra", "public.item 25 p:25 missing"],
  ],
  [
    "insert into public.item (id, part, _millrace_version, _millrace_commit_time) values (-1, 'first', 1, now())",
    ["public.item -1 first extra"],
  ],
];
export const STATEMENTS = FAULTS.map(([sql]) => sql).join("; ");
export const IN_WAREHOUSES = FAULTS.flatMap(([, found]) => found).toSorted();
