/**
 * MySQL and MariaDB refuse the source's login for a while, in every way that they have: all are told with their meaning and
 * their cure, and go on by themselves afterwards.
 * @module-tag heavy
 */
import { once } from "node:events";
import { connect } from "node:net";
import { createConnection } from "mysql2/promise";
import { describe, expect, test } from "vitest";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { COMMAND_EVERY_MS, TOLD_WITHIN_MS } from "../../support/daemon/told.ts";
import { ownAddress } from "../../support/network/own-address.ts";
import { type MysqlFlavour, mysqlFlavours, ownMysql } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const USER = "'reader'@'%'";
const PASSWORD = "canary-of-a-user";

interface Refusal {
  readonly how: string;
  readonly of?: MysqlFlavour;
  readonly closed: readonly string[];
  readonly opened: readonly string[];
  /** What `status` says of it: its number, what the server says, and the cure. */
  readonly told: RegExp;
}

const GRANTS = [`grant replication slave, replication client on *.* to ${USER}`, `grant select on *.* to ${USER}`];

const REFUSALS: readonly Refusal[] = [
  {
    how: "the account is locked",
    closed: [`alter user ${USER} account lock`],
    opened: [`alter user ${USER} account unlock`],
    told: /MR2002 .*locked[^]*ACCOUNT UNLOCK/,
  },
  {
    how: "the password has expired",
    closed: [`alter user ${USER} password expire`],
    opened: [`alter user ${USER} identified by '${PASSWORD}'`],
    told: /MR2002 [^]*The password of the user of `source.url` has expired: set it again/,
  },
  {
    how: "the user is gone",
    closed: [`drop user ${USER}`],
    opened: [`create user ${USER} identified by '${PASSWORD}'`, ...GRANTS],
    told: /MR2002 .*denied[^]*ALTER USER … IDENTIFIED BY/,
  },
  {
    how: "the user must come by TLS",
    closed: [`alter user ${USER} require ssl`],
    opened: [`alter user ${USER} require none`],
    told: /MR2002 .*denied[^]*requires TLS \(SHOW CREATE USER: REQUIRE\)/,
  },
  {
    how: "the user must come with a certificate",
    closed: [`alter user ${USER} require x509`],
    opened: [`alter user ${USER} require none`],
    told: /MR2002 .*denied[^]*requires TLS \(SHOW CREATE USER: REQUIRE\)/,
  },
  {
    how: "the user may not read the log",
    closed: [`revoke replication slave on *.* from ${USER}`],
    opened: GRANTS,
    told: /MR2008 [^]*GRANT REPLICATION SLAVE/,
  },
  {
    how: "the user may not ask for the log's position",
    of: "mysql",
    closed: [`revoke replication client on *.* from ${USER}`],
    opened: GRANTS,
    told: /MR2008 [^]*GRANT REPLICATION CLIENT/,
  },
  {
    how: "the user may do nothing",
    closed: [`revoke all privileges, grant option from ${USER}`],
    opened: GRANTS,
    told: /MR2008 [^]*GRANT/,
  },
  {
    how: "the server is offline",
    of: "mysql",
    closed: ["set global offline_mode = on"],
    opened: ["set global offline_mode = off"],
    told: /MR2002 .*offline mode[^]*SET GLOBAL offline_mode = OFF/,
  },
  {
    how: "what runs at a login fails",
    closed: ["set global init_connect = 'select * from nowhere.at_all'"],
    opened: ["set global init_connect = ''"],
    told: /MR2002 .*init_connect command failed[^]*Correct the statements in `init_connect`/,
  },
  {
    how: "the user has as many connections as it may",
    closed: [`alter user ${USER} with max_user_connections 1`],
    opened: [`alter user ${USER} with max_user_connections 0`],
    told: /MR2006 .*'max_user_connections' resource \(current value: 1\)[^]*MAX_USER_CONNECTIONS 0/,
  },
];

/** `host`: by which the daemon reaches the server. */
async function readerOf(flavour: MysqlFlavour, url: string, host = "127.0.0.1"): Promise<MysqlPipeline> {
  return await MysqlPipeline.start(
    flavour,
    ["create table t (id int primary key)", `create user ${USER} identified by '${PASSWORD}'`, ...GRANTS],
    {
      kinds: ["duckdb"],
      url,
      through: async (name, given) => {
        const own = new URL(given);
        own.hostname = host;
        own.username = "reader";
        own.password = PASSWORD;
        own.searchParams.set("ssl-mode", "DISABLED");
        return { kind: "mysql", url: own.href, heartbeat: "500ms", tables: [`${name}.*`] };
      },
    },
  );
}

async function cut(pipeline: MysqlPipeline): Promise<void> {
  const sessions = await pipeline.source.texts("select id from information_schema.processlist where user = 'reader'");
  // One may have ended by itself.
  for (const [id] of sessions) await pipeline.run(`kill ${id}`).catch(() => undefined);
}

async function expectTold({ installation, daemon }: MysqlPipeline, how: string, told: RegExp): Promise<void> {
  await eventually(
    async () => {
      const { stdout } = await installation.command("status");
      expect(stdout, how).toMatch(told);
      // What helps against another refusal.
      if (!/denied/.test(stdout)) expect(stdout, how).not.toContain("answers the same");
    },
    { withinMs: TOLD_WITHIN_MS, everyMs: COMMAND_EVERY_MS },
  );
  expect(daemon.exited, how).toBe(false);
}

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("every way to refuse a login is told with its cure, and passes by itself", async () => {
    await using server = await ownMysql(flavour);
    await using pipeline = await readerOf(flavour, server.url);
    for (const [id, { how, of, closed, opened, told }] of REFUSALS.entries()) {
      if (of !== undefined && of !== flavour) continue;
      await pipeline.run(...closed);
      await cut(pipeline);
      await expectTold(pipeline, how, told);
      await pipeline.run(...opened, `insert into t values (${id})`);
      await pipeline.settled();
    }
    await pipeline.expectEqual("t");
    expect(pipeline.daemon.said).not.toContain("canary");
  });

  test("a server without a connection left is told with its limit", async () => {
    await using server = await ownMysql(flavour);
    await using pipeline = await readerOf(flavour, server.url);
    const limit = 10;
    await pipeline.run(`set global max_connections = ${limit}`);
    await pipeline.daemon.stop();
    await pipeline.start();
    await using others = new AsyncDisposableStack();
    const fill = async (): Promise<void> => {
      for (;;) {
        const other = await createConnection({ uri: server.url }).catch(() => undefined);
        if (other === undefined) return;
        others.defer(() => other.end());
      }
    };
    await fill();
    await cut(pipeline);
    await fill();
    const told = new RegExp(`MR2006 .*Too many connections[^]*max_connections ${limit}`);
    await expectTold(pipeline, "full", told);
    await others.disposeAsync();
    await pipeline.run("insert into t values (1)");
    await pipeline.expectEqual("t");
  });

  test("a host that the server has blocked is told with its cure", async (context) => {
    // Servers count no errors of their own machine's loopback address.
    context.skip(flavour === "mysql", "it does not count connections that end at its greeting");
    const host = ownAddress(context);
    await using server = await ownMysql(flavour, {
      settings: { "bind-address": "*", "max-connect-errors": 1, "skip-name-resolve": "OFF" },
    });
    await using pipeline = await readerOf(flavour, server.url, host);
    // As what looks for open ports does.
    for (const _ of [1, 2, 3]) {
      const socket = connect(server.port, host);
      await once(socket, "data");
      await once(socket.destroy(), "close");
    }
    await cut(pipeline);
    await expectTold(pipeline, "blocked", /MR2002 .*blocked because of many connection errors[^]*FLUSH HOSTS/);
    await pipeline.run("flush hosts", "insert into t values (1)");
    await pipeline.expectEqual("t");
  });
});
