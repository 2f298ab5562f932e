/** What a lake finds hard: changes of shape, truncates, moved keys and unchanged long values, in many small transactions. */
import type { Random } from "../run/random.ts";
import type { FreshDatabase } from "../run/services.ts";

export const BACKLOG_TABLES = Array.from({ length: 14 }, (_, i) => `busy${i}`);
const KEYS = 60;
/** Of a hundred transactions. */
const [TRUNCATES, ALTERATIONS] = [6, 2];

export const PREPARE_BACKLOG = BACKLOG_TABLES.map(
  (table) =>
    `create table ${table} (id int primary key, name text, body text);
     alter table ${table} alter column body set storage external;
     insert into ${table} select i, 'n' || i, repeat(md5(i::text), 90) from generate_series(1, ${KEYS}) i;`,
).join("\n");

/** Writes so many transactions, one after the other. Returns how many of them changed a table's shape. */
export async function writeBacklog(source: FreshDatabase, random: Random, count: number): Promise<number> {
  await using client = await source.connect();
  const added = new Map<string, string>();
  let alterations = 0;
  for (let n = 0; n < count; n++) {
    const sql = transaction(random, added, n);
    if (sql.includes("alter table")) alterations++;
    await client.query(sql);
  }
  return alterations;
}

function transaction(random: Random, added: Map<string, string>, n: number): string {
  const table = random.pick(BACKLOG_TABLES);
  const chance = random.below(100);
  if (chance < TRUNCATES) return `begin; truncate ${table}; ${statement(random, table, added)}; commit`;
  if (chance < TRUNCATES + ALTERATIONS) {
    const former = added.get(table);
    if (former === undefined) added.set(table, `extra${n}`);
    else added.delete(table);
    const change = former === undefined ? `add column extra${n} text` : `drop column ${former}`;
    return `begin; ${statement(random, table, new Map())}; alter table ${table} ${change}; ${statement(random, table, added)}; commit`;
  }
  const statements = Array.from({ length: 1 + random.below(4) }, () =>
    statement(random, random.chance(0.7) ? table : random.pick(BACKLOG_TABLES), added),
  );
  return `begin; ${statements.join("; ")}; commit`;
}

function statement(random: Random, table: string, added: ReadonlyMap<string, string>): string {
  const id = 1 + random.below(KEYS);
  const extra = added.get(table);
  const also = extra === undefined ? "" : `, ${extra} = 'e${random.below(1000)}'`;
  switch (random.below(6)) {
    case 0:
      return `delete from ${table} where id = ${id}`;
    case 1:
      return `update ${table} set id = id + ${KEYS} where id = ${id} and not exists (select from ${table} where id = ${id + KEYS})`;
    case 2:
      return `update ${table} set body = repeat(md5(name), 90) where id = ${id}`;
    case 3:
      return `update ${table} set name = name || '.'${also} where id between ${id} and ${id + 3}`;
    default:
      return `insert into ${table} (id, name, body) values (${id}, 'again', repeat(md5('${random.below(1000)}'), 90))
        on conflict (id) do update set name = 'again and again'`;
  }
}
