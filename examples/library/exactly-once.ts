/**
 * Exactly once into the program's own Postgres: what a transaction did and its position are stored by one commit, so neither is
 * there without the other, whenever the program is killed. It adds up the turnover of each customer from its first start on.
 *
 *   SOURCE=postgres://… TARGET=postgres://… node exactly-once.ts
 */
import { follow, type Row, type RowChange } from "millrace";
import { Client } from "pg";

const { SOURCE = "", TABLE = "public.orders", TARGET = "", NAME = "turnover" } = process.env;
const target = new Client(TARGET);
await target.connect();
await target.query(`create table if not exists turnover (customer int primary key, cents bigint not null, changes int not null);
  create table if not exists followed (name text primary key, position text)`);
await target.query("insert into followed (name) values ($1) on conflict do nothing", [NAME]);
const stored = await target.query<{ position: string | null }>("select position from followed where name = $1", [NAME]);

const stopping = new AbortController();
process.once("SIGTERM", () => stopping.abort());

let from = stored.rows[0]?.position ?? null;
const open: { done(): Promise<void> }[] = [];
const turnover = new Map<number, { cents: bigint; changes: number }>();
const following = { source: SOURCE, tables: [TABLE], name: NAME, from, signal: stopping.signal };
for await (const transaction of follow({ ...following, snapshot: "none" })) {
  for (const change of transaction.changes)
    if (change.op === "c" || change.op === "u" || change.op === "d") add(change);
  open.push(transaction);
  // One commit for all that is at hand.
  if (!transaction.hasNext || open.length === 100) await commit(transaction.position);
}
await target.end();

/** `before` is the whole row: the table has REPLICA IDENTITY FULL, or MySQL's log the images of whole rows. */
function add({ before, after }: RowChange): void {
  if (before !== null) addTo(before, -1n);
  if (after !== null) addTo(after, 1n);
}

function addTo({ customer, cents }: Row, sign: bigint): void {
  if (typeof customer !== "number" || typeof cents !== "bigint") throw new TypeError("orders has other columns");
  const sum = turnover.get(customer) ?? { cents: 0n, changes: 0 };
  turnover.set(customer, { cents: sum.cents + sign * cents, changes: sum.changes + 1 });
}

async function commit(position: string): Promise<void> {
  const sums = [...turnover.values()];
  await target.query("begin");
  await target.query(
    `insert into turnover select * from unnest($1::int[], $2::bigint[], $3::int[]) on conflict (customer) do update
       set cents = turnover.cents + excluded.cents, changes = turnover.changes + excluded.changes`,
    [[...turnover.keys()], sums.map(({ cents }) => String(cents)), sums.map(({ changes }) => changes)],
  );
  // The condition keeps a second program of this name out.
  const moved = await target.query(
    "update followed set position = $1 where name = $2 and position is not distinct from $3",
    [position, NAME, from],
  );
  if (moved.rowCount !== 1) throw new Error(`another program follows as ${NAME}`);
  await target.query("commit");
  from = position;
  turnover.clear();
  for (const one of open.splice(0)) await one.done();
}
