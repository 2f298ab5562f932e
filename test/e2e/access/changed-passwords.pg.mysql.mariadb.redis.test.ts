/** Passwords that change while the daemon runs: it asks for them at each new connection. */
import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { expect, test } from "vitest";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import {
  freshDatabase,
  freshKeyPrefix,
  freshMysqlDatabase,
  mysqlUrl,
  ownPostgres,
  redisUrl,
} from "../../support/run/services.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";
import { eventually } from "../../support/run/waiting.ts";

test("a command's password for the source, and a file's for sinks and the state, are asked for at each connection", async () => {
  await using server = await ownPostgres({
    auth: ["host all,replication reader,keeper,writer 127.0.0.1/32 scram-sha-256", "host all all 127.0.0.1/32 trust"],
  });
  await using source = await freshDatabase(server);
  await using target = await freshDatabase(server);
  await using prefix = freshKeyPrefix();
  const user = `cache_${randomUUID().slice(0, 8)}`;
  const redis = new Redis(redisUrl());
  const as = (text: string, name: string) => {
    const url = new URL(text);
    url.username = name;
    return url.href;
  };
  await source.query(
    "create role reader superuser login; create role keeper superuser login; create role writer superuser login; create table public.item (id int primary key)",
  );
  await using installation = new Installation({
    name: source.name,
    source: {
      kind: "postgres",
      url: as(source.url, "reader"),
      heartbeat: "500ms",
      passwordCommand: ["cat", "./token"],
    },
    state: { url: as(source.url, "keeper"), passwordFile: "./secret" },
    sinks: {
      cache: { kind: "redis", url: as(redisUrl(), user), prefix: prefix.prefix, passwordFile: "./secret" },
      copy: { kind: "postgres", url: as(target.url, "writer"), passwordFile: "./secret" },
    },
  });
  const rotated = async (password: string) => {
    for (const role of ["reader", "keeper", "writer"]) await source.query(`alter role ${role} password '${password}'`);
    await redis.call("ACL", "SETUSER", user, "on", "allkeys", "allcommands", "resetpass", `>${password}`);
    for (const file of ["token", "secret"]) {
      writeFileSync(join(installation.folder, `${file}.new`), `${password}\n`);
      renameSync(join(installation.folder, `${file}.new`), join(installation.folder, file));
    }
  };
  const cut = async () => {
    await source.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where usename in ('reader', 'keeper', 'writer')",
    );
    await redis.call("CLIENT", "KILL", "USER", user);
  };
  const arrived = async (id: number) => {
    await source.query(`insert into public.item values (${id})`);
    await eventually(async () => expect(await redis.exists(`${prefix.prefix}public:item:${id}`)).toBe(1));
    await eventually(async () =>
      expect((await target.query("select from public.item where id = $1", [id])).rowCount).toBe(1),
    );
  };
  try {
    await rotated("canary-of-the-first");
    const daemon = installation.run();
    await daemon.streaming();
    await arrived(1);

    await rotated("canary-of-the-second");
    await cut();
    await arrived(2);

    renameSync(join(installation.folder, "token"), join(installation.folder, "away"));
    await cut();
    await eventually(async () =>
      expect((await installation.status()).source).toMatchObject({ needsPerson: true, error: { code: "MR2901" } }),
    );
    renameSync(join(installation.folder, "away"), join(installation.folder, "token"));
    await arrived(3);
    expect((await installation.status()).state.error).toBeNull();

    // A command reads the password too.
    await rotated("canary-of-the-third");
    const { stdout } = await installation.command("status", "--json");
    expect((await daemon.stop()).exitCode).toBe(0);
    expect(await installation.command("offsets", "show")).toMatchObject({ exitCode: 0 });
    expect(daemon.said + stdout).not.toContain("canary");

    await source.query("alter role keeper password 'canary-of-the-fourth'");
    const refused = await installation.command("status");
    expect(refused.stderr).toContain("MR1216: the state's Postgres server");
    expect(refused.stderr).toContain("No restart is needed: `passwordFile` is asked again at each connection.");
  } finally {
    await redis.call("ACL", "DELUSER", user);
    redis.disconnect();
  }
});

test.each([
  ["mysql", "passwordFile"],
  ["mariadb", "passwordCommand"],
] as const)("%s: `%s` is asked at each new connection, and the stream goes on meanwhile", async (flavour, key) => {
  await using administrator = await freshMysqlDatabase(mysqlUrl(flavour));
  using files = temporaryFolder();
  const file = files.file("secret");
  const reader = `reader_${randomUUID().slice(0, 8)}`;
  const set = async (password: string): Promise<void> =>
    void (await administrator.connection.query(`alter user ${reader}@'%' identified by '${password}'`));
  const sessions = async (isDump: boolean): Promise<readonly number[]> => {
    const sql = `select id from information_schema.processlist where user = '${reader}' and command ${isDump ? "" : "not "}like 'Binlog Dump%'`;
    return (await administrator.texts(sql)).map(([id]) => Number(id));
  };
  /** The server keeps those that were left for a while. */
  const stream = async (): Promise<number> => Math.max(...(await sessions(true)));
  const cut = async (ids: readonly number[]): Promise<void> => {
    // One may have ended by itself.
    for (const id of ids) await administrator.connection.query(`kill ${id}`).catch(() => undefined);
  };
  await administrator.connection.query(`create user ${reader}@'%' identified by 'canary-of-the-first'`);
  try {
    await administrator.connection.query(`grant select, replication slave, replication client on *.* to ${reader}@'%'`);
    writeFileSync(file, "canary-of-the-first");
    await using pipeline = await MysqlPipeline.start(flavour, ["create table t (id int primary key)"], {
      kinds: ["duckdb"],
      through: async (_, given) => {
        const url = new URL(given);
        url.username = reader;
        url.password = "";
        const password = key === "passwordFile" ? { passwordFile: file } : { passwordCommand: ["cat", file] };
        return { kind: "mysql", url: url.href, heartbeat: "500ms", ...password };
      },
    });
    await pipeline.run("insert into t values (1)");
    await pipeline.expectEqual("t");
    const before = await stream();

    await set("canary-of-the-second");
    writeFileSync(file, "canary-of-the-second");
    await cut(await sessions(false));
    await pipeline.readAgain("t");
    await pipeline.run("insert into t values (2)");
    await pipeline.expectEqual("t");
    expect(await stream()).toBe(before);

    // The server's comes first.
    await set("canary-of-the-third");
    await cut([...(await sessions(true)), ...(await sessions(false))]);
    await eventually(async () =>
      expect((await pipeline.installation.status()).source.error).toMatchObject({
        code: "MR2002",
        hint: expect.stringContaining(`No restart is needed: \`${key}\` is asked again at each connection.`),
      }),
    );
    writeFileSync(file, "canary-of-the-third");
    await pipeline.run("insert into t values (3)");
    await pipeline.expectEqual("t");
    expect(pipeline.daemon.said).not.toContain("canary");
  } finally {
    await administrator.connection.query(`drop user ${reader}@'%'`);
  }
});
