/**
 * Debezium's engine on an existing MySQL log. It only begins where it last was. So before the load it runs until it has
 * seen a row, and every measured run starts from a copy of its stored position.
 */
import { cp, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Connection } from "mysql2/promise";
import type { Counted, Debezium } from "./debezium.ts";

const PRIME_EVERY_MS = 500;

export class DebeziumMysql implements AsyncDisposable {
  readonly #engine: Debezium;
  readonly #url: string;
  readonly #dir: string;
  #runs = 0;

  private constructor(engine: Debezium, url: string, dir: string) {
    this.#engine = engine;
    this.#url = url;
    this.#dir = dir;
  }

  /** `orders` must exist in the connection's database, and be empty. */
  static async prime(engine: Debezium, url: string, connection: Connection, database: string): Promise<DebeziumMysql> {
    const made = new DebeziumMysql(engine, url, await mkdtemp(join(tmpdir(), "millrace-bench-")));
    const primed = join(made.#dir, "primed");
    await mkdir(primed);
    await connection.query("create table prime (id bigint primary key auto_increment)");
    const ended = new AbortController();
    const counting = engine
      .count(1, made.#properties(primed, database, ["orders", "prime"]), { closes: true })
      .finally(() => ended.abort());
    // Its failure is reported when it is awaited.
    counting.catch(() => undefined);
    while (!ended.signal.aborted) {
      await connection.query("insert into prime values ()");
      await sleep(PRIME_EVERY_MS);
    }
    await counting;
    return made;
  }

  async count(rowCount: number, database: string): Promise<Counted> {
    const dir = join(this.#dir, String(this.#runs++));
    await cp(join(this.#dir, "primed"), dir, { recursive: true });
    return await this.#engine.count(rowCount, this.#properties(dir, database, ["orders"]));
  }

  #properties(dir: string, database: string, tables: readonly string[]): Record<string, string> {
    const { hostname, port, username } = new URL(this.#url);
    return {
      name: "bench",
      "connector.class": "io.debezium.connector.mysql.MySqlConnector",
      "offset.storage": "org.apache.kafka.connect.storage.FileOffsetBackingStore",
      "offset.storage.file.filename": join(dir, "offsets"),
      "offset.flush.interval.ms": String(PRIME_EVERY_MS),
      "schema.history.internal": "io.debezium.storage.file.history.FileSchemaHistory",
      "schema.history.internal.file.filename": join(dir, "history"),
      "include.schema.changes": "false",
      "topic.prefix": "bench",
      "database.hostname": hostname,
      "database.port": port,
      "database.user": username,
      "database.password": "",
      "database.server.id": "77002",
      "database.include.list": database,
      "table.include.list": tables.map((table) => `${database}.${table}`).join(","),
      "database.ssl.mode": "disabled",
      "driver.allowPublicKeyRetrieval": "true",
      "snapshot.locking.mode": "none",
      "snapshot.mode": "no_data",
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#dir, { recursive: true, force: true });
  }
}
