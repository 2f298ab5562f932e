import { Client, DatabaseError } from "pg";
import { Random } from "../run/random.ts";
import { eventually } from "../run/waiting.ts";

/** The tables that the workload writes to; all in `public`. */
export const WORKLOAD_TABLES = ["account", "line", "pair", "seat", "small"] as const;

/** The same with their keys. */
export const WORKLOAD_KEYS = WORKLOAD_TABLES.map((table) => ({
  schema: "public",
  table,
  key: table === "line" ? ["tenant", "id"] : ["id"],
}));

const SCHEMA = `
  create table account (id int primary key, email text unique, balance numeric(20,4), note text, tags text[], touched int not null default 0);
  create table line (tenant int, id int, status text, doc jsonb, body text, primary key (tenant, id));
  create table pair (id int primary key, other int unique, label text);
  create table seat (id int primary key deferrable initially deferred, holder text, body text);
  alter table seat replica identity full;
  create table small (id int primary key, label text);
  alter table account alter column note set storage external;
  alter table line alter column body set storage external;
`;

/** Sessions writing at once. */
const WRITER_COUNT = 3;
const KEYS = 400;

/**
 * Writers that keep changing rows in all the ways that matter: inserts, updates that leave long values alone, key
 * changes, deletes and reinserts, many changes of one key in a transaction, keys swapped under a deferred constraint,
 * savepoints rolled back, truncates. Transactions overlap.
 */
export class Workload implements AsyncDisposable {
  readonly #url: string;
  readonly #seed: number;
  readonly #reconnects: boolean;
  #stopped = false;
  #writers: readonly Promise<void>[] = [];
  transactionCount = 0;

  /** `reconnects`: the writers go on when the server that they wrote to went away. */
  constructor(url: string, seed: number, reconnects = false) {
    this.#url = url;
    this.#seed = seed;
    this.#reconnects = reconnects;
  }

  async createTables(rowCount: number): Promise<void> {
    await using session = await connect(this.#url);
    const { client } = session;
    await client.query(SCHEMA);
    await client.query(
      `insert into account select g, 'a' || g, g * 1.25, repeat(md5(g::text), 100), array['x', null, g::text] from generate_series(1, $1::int) g`,
      [rowCount],
    );
    await client.query(
      `insert into line select g % 7, g, 'new', jsonb_build_object('n', g), repeat(md5(g::text), 90) from generate_series(1, $1::int) g`,
      [rowCount],
    );
    await client.query("insert into pair select g, g, 'p' from generate_series(1, 100) g");
    await client.query("insert into seat select g, 'h' || g, repeat(md5(g::text), 90) from generate_series(1, 50) g");
    await client.query("insert into small select g, 's' from generate_series(1, 20) g");
  }

  /** Starts the writers; `pauseMs` is what each waits between transactions. */
  start(pauseMs = 0): void {
    this.#stopped = false;
    this.#writers = Array.from({ length: WRITER_COUNT }, (_, i) => this.#write(new Random(this.#seed + i), pauseMs));
  }

  /** Resolves when the writers have done so many transactions more. */
  async written(count: number): Promise<void> {
    const until = this.transactionCount + count;
    await eventually(() => this.transactionCount >= until, { withinMs: 60_000 });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#writers);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #write(random: Random, pauseMs: number): Promise<void> {
    const session = () => this.#writeAsLongAs(random, pauseMs);
    await (this.#reconnects ? acrossServers(session, () => this.#stopped) : session());
  }

  async #writeAsLongAs(random: Random, pauseMs: number): Promise<void> {
    await using session = await connect(this.#url);
    const { client } = session;
    while (!this.#stopped) {
      await transaction(client, random);
      this.transactionCount++;
      if (pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }
}

/** One random transaction. What concurrency refuses (a duplicate, a deadlock) is rolled back, as an application would. */
async function transaction(client: Client, random: Random): Promise<void> {
  await client.query("begin");
  try {
    const count = random.chance(0.6) ? 1 : 1 + random.below(random.chance(0.05) ? 200 : 12);
    for (let i = 0; i < count; i++) await batch(client, random);
    await client.query(random.chance(0.95) ? "commit" : "rollback");
  } catch (error) {
    await client.query("rollback");
    if (!(error instanceof DatabaseError) || !/^(23|40)/.test(error.code ?? "")) throw error;
  }
}

type Batch = (client: Client, random: Random) => Promise<unknown>;

async function batch(client: Client, random: Random): Promise<void> {
  await random.pick(BATCHES)(client, random);
}

const key = (random: Random) => 1 + random.below(KEYS);

const BATCHES: readonly Batch[] = [
  (client, random) =>
    client.query("insert into account values ($1::int, 'n' || $1::int, $2, $3, $4) on conflict do nothing", [
      key(random),
      random.next() * 1000,
      random.text(3_000),
      ["a", null, random.text(5)],
    ]),
  (client, random) =>
    client.query("update account set balance = balance + 1, touched = touched + 1 where id = $1", [key(random)]),
  (client, random) => client.query("update account set note = $2 where id = $1", [key(random), random.text(2_500)]),
  (client, random) => client.query("delete from account where id = $1", [key(random)]),
  // A key change that leaves the long value alone.
  (client, random) => client.query("update account set id = $2 where id = $1", [key(random), KEYS + key(random)]),
  (client, random) => client.query("update account set id = $2 where id = $1", [KEYS + key(random), key(random)]),
  (client, random) =>
    client.query(
      "insert into line values ($1, $2, 'new', $3, $4) on conflict (tenant, id) do update set status = 'again', doc = excluded.doc",
      [random.below(7), key(random), { n: random.next(), s: random.text(8) }, random.text(2_600)],
    ),
  (client, random) =>
    client.query("update line set status = $3 where tenant = $1 and id = $2", [
      random.below(7),
      key(random),
      random.text(6),
    ]),
  (client, random) =>
    client.query("update line set tenant = $2 where tenant = $1 and id = $3", [
      random.below(7),
      random.below(7),
      key(random),
    ]),
  (client, random) => client.query("delete from line where tenant = $1 and id = $2", [random.below(7), key(random)]),
  // The same key many times in one transaction.
  async (client, random) => {
    const id = key(random);
    for (let i = 0; i < 20; i++) await client.query("update line set status = $2 where id = $1", [id, `s${i}`]);
  },
  // Insert and delete of one key whose records may lie in the log in the other order than their commits.
  (client, random) =>
    client.query("insert into pair values ($1, $2, $3) on conflict do nothing", [
      random.below(120),
      random.below(120),
      random.text(4),
    ]),
  (client, random) => client.query("delete from pair where id = $1", [random.below(120)]),
  // Two rows swap their keys.
  (client, random) => {
    const a = 1 + random.below(50);
    const b = 1 + random.below(50);
    return client.query(
      "update seat set id = case id when $1::int then $2::int else $1::int end where id in ($1::int, $2::int)",
      [a, b],
    );
  },
  (client, random) => client.query("update seat set holder = $2 where id = $1", [1 + random.below(50), random.text(5)]),
  async (client, random) => {
    await client.query("savepoint s");
    await client.query("update account set balance = 0, note = 'never seen' where id = $1", [key(random)]);
    await client.query("insert into small values ($1, 'never seen') on conflict do nothing", [random.below(40)]);
    await client.query("rollback to savepoint s");
  },
  (client, random) =>
    random.chance(0.1)
      ? client.query("truncate small")
      : client.query("insert into small values ($1, $2) on conflict (id) do update set label = excluded.label", [
          random.below(40),
          random.text(3),
        ]),
];

/** 25006: a standby; 57: going away or coming up. */
const GONE = /^(25006|57)/;
const AGAIN_MS = 50;

/** Does it again whenever its server was lost, until it ends by itself or is told to. */
export async function acrossServers(session: () => Promise<void>, isStopped: () => boolean): Promise<void> {
  for (;;) {
    try {
      return await session();
    } catch (error) {
      if (isStopped()) return;
      if (error instanceof DatabaseError && !GONE.test(error.code ?? "")) throw error;
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }
}

async function connect(url: string): Promise<{ client: Client } & AsyncDisposable> {
  const client = new Client({ connectionString: url });
  // Whoever uses it next is told.
  client.on("error", () => {});
  await client.connect();
  return { client, [Symbol.asyncDispose]: () => client.end() };
}
