/** Hosts of one replication set behind one address, which leads to the first until it is told otherwise. */
import { createConnection } from "mysql2/promise";
import type { Settings } from "../../../scripts/services/servers/mysql/mysql-server.ts";
import type { RunningService } from "../../../scripts/services/service.ts";
import { type TcpProxy, tcpProxy } from "../network/proxy.ts";
import { type MysqlFlavour, ownMysql } from "../run/services.ts";
import { eventually } from "../run/waiting.ts";

const CAUGHT_UP_WITHIN_MS = 60_000;

export class MysqlHosts implements AsyncDisposable {
  readonly #flavour: MysqlFlavour;
  readonly #owned: AsyncDisposableStack;
  readonly #proxy: TcpProxy;
  readonly source: RunningService;
  readonly replica: RunningService;
  /** The common address. */
  readonly url: string;

  private constructor(
    flavour: MysqlFlavour,
    owned: AsyncDisposableStack,
    proxy: TcpProxy,
    source: RunningService,
    replica: RunningService,
  ) {
    this.#flavour = flavour;
    this.#owned = owned;
    this.#proxy = proxy;
    this.source = source;
    this.replica = replica;
    this.url = proxy.url(source.url);
  }

  /** `settings`: of the replica. */
  static async start(flavour: MysqlFlavour, settings: Settings = {}): Promise<MysqlHosts> {
    await using owned = new AsyncDisposableStack();
    const [source, replica] = [
      owned.use(await ownMysql(flavour)),
      owned.use(await ownMysql(flavour, { settings: { "server-id": 2, ...settings } })),
    ];
    const proxy = owned.use(await tcpProxy(source.url));
    const hosts = new MysqlHosts(flavour, owned.move(), proxy, source, replica);
    await hosts.replicate();
    return hosts;
  }

  /** The replica follows the source. */
  async replicate(): Promise<void> {
    const { hostname, port } = new URL(this.source.url);
    if (this.#flavour === "mysql")
      await run(
        this.replica.url,
        `change replication source to source_host = '${hostname}', source_port = ${port}, source_user = 'root', source_auto_position = 1, get_source_public_key = 1`,
        "start replica",
      );
    else
      await run(
        this.replica.url,
        `change master to master_host = '${hostname}', master_port = ${port}, master_user = 'root', master_use_gtid = slave_pos`,
        "start slave",
      );
  }

  /** What the replica has of the source stays as it is. */
  async part(): Promise<void> {
    await run(this.replica.url, this.#flavour === "mysql" ? "stop replica" : "stop slave");
  }

  /** Resolves when the replica has all that the source has. */
  async caughtUp(): Promise<void> {
    const variable = this.#flavour === "mysql" ? "gtid_executed" : "gtid_binlog_pos";
    const [wanted] = await run(this.source.url, `select @@global.${variable}`);
    await eventually(
      async () => {
        const [has] = await run(this.replica.url, `select @@global.${variable}`);
        return has === wanted;
      },
      { withinMs: CAUGHT_UP_WITHIN_MS },
    );
  }

  /** The common address leads to the replica. */
  lead(): void {
    this.#proxy.redirect(this.replica.url);
    this.#proxy.cut();
  }

  /** The same for new connections alone: those that read the source's log go on, its other ones end. */
  async leadSlowly(): Promise<void> {
    this.#proxy.redirect(this.replica.url);
    const connection = await createConnection({ uri: this.source.url, rowsAsArray: true });
    const [rows] = await connection.query(
      "select id from information_schema.processlist where id <> connection_id() and command = 'Sleep'",
    );
    for (const row of Array.isArray(rows) ? rows : []) await connection.query(`kill ${String(Object.values(row)[0])}`);
    await connection.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned.disposeAsync();
  }
}

/** The first value of what each statement gives. */
export async function run(url: string, ...statements: readonly string[]): Promise<string[]> {
  const connection = await createConnection({ uri: url, rowsAsArray: true, typeCast: (field) => field.string("utf8") });
  try {
    const values: string[] = [];
    for (const sql of statements) {
      const [rows] = await connection.query(sql);
      const row: unknown = Array.isArray(rows) ? rows[0] : undefined;
      values.push(Array.isArray(row) ? String(row[0]) : "");
    }
    return values;
  } finally {
    await connection.end();
  }
}
