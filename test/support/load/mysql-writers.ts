/** Writers that contend for the rows of two tables of MySQL or MariaDB. */
import { setTimeout as sleep } from "node:timers/promises";
import { createConnection } from "mysql2/promise";
import { Random } from "../run/random.ts";

const WRITERS = 4;
/** Without it the server would take a core for itself, for as long as anything beside it lasts. */
const PAUSE_MS = 5;
export const KEYS = 120;
export const CONTENDED_TABLES = [
  "create table account (id int primary key, balance int not null, note varchar(60), touched timestamp(6) default current_timestamp(6) on update current_timestamp(6))",
  "create table seat (room varchar(8), number int, holder int, primary key (room, number))",
];

/** Until it is stopped: transactions of a few statements, some of them rolled back. */
export class Writers implements AsyncDisposable {
  readonly #running: Promise<void>[];
  #stopped = false;
  count = 0;

  constructor(url: string, seed: number) {
    this.#running = Array.from({ length: WRITERS }, (_, i) => this.#write(url, new Random(seed + i)));
  }

  async #write(url: string, random: Random): Promise<void> {
    const connection = await createConnection({ uri: url });
    while (!this.#stopped) {
      try {
        await connection.query("start transaction");
        for (let n = random.below(5) + 1; n > 0; n--) await connection.query(statement(random));
        await connection.query(random.below(10) === 0 ? "rollback" : "commit");
        this.count++;
        await sleep(PAUSE_MS);
      } catch (error) {
        // Deadlocks, and keys that another writer has taken meanwhile.
        if (!(error instanceof Error) || !/deadlock|duplicate|lock wait/i.test(error.message)) throw error;
        await connection.query("rollback");
      }
    }
    await connection.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#running);
  }
}

function statement(random: Random): string {
  const id = random.below(KEYS);
  const other = random.below(KEYS);
  switch (random.below(7)) {
    case 0:
    case 1:
      return `insert into account (id, balance, note) values (${id}, ${other}, 'n${other}') on duplicate key update balance = balance + 1`;
    case 2:
      return `update account set balance = balance - 1, note = repeat('x', ${other % 60}) where id between ${id} and ${id + 5}`;
    case 3:
      return `delete from account where id = ${id}`;
    case 4:
      return `update account set id = ${id + KEYS} where id = ${id}`;
    case 5:
      return `delete from account where id >= ${KEYS + id}`;
    default:
      return `replace into seat values ('r${id % 5}', ${other % 10}, ${id})`;
  }
}
