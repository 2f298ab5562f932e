/** Passwords that change while the daemon runs: it asks for them at each new connection. */
import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { expect, test } from "vitest";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { freshDatabase, freshKeyPrefix, ownPostgres, redisUrl } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

test("a command's password for the source, and a file's for Redis and the state, are asked for at each connection", async () => {
  await using server = await ownPostgres({
    auth: ["host all,replication reader,keeper 127.0.0.1/32 scram-sha-256", "host all all 127.0.0.1/32 trust"],
  });
  await using source = await freshDatabase(server);
  await using prefix = freshKeyPrefix();
  const user = `cache_${randomUUID().slice(0, 8)}`;
  const redis = new Redis(redisUrl());
  const as = (text: string, name: string) => {
    const url = new URL(text);
    url.username = name;
    return url.href;
  };
  await source.query(
    "create role reader superuser login; create role keeper superuser login; create table public.item (id int primary key)",
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
    sinks: { cache: { kind: "redis", url: as(redisUrl(), user), prefix: prefix.prefix, passwordFile: "./secret" } },
  });
  const rotated = async (password: string) => {
    for (const role of ["reader", "keeper"]) await source.query(`alter role ${role} password '${password}'`);
    await redis.call("ACL", "SETUSER", user, "on", "allkeys", "allcommands", "resetpass", `>${password}`);
    for (const file of ["token", "secret"]) {
      writeFileSync(join(installation.folder, `${file}.new`), `${password}\n`);
      renameSync(join(installation.folder, `${file}.new`), join(installation.folder, file));
    }
  };
  const cut = async () => {
    await source.query("select pg_terminate_backend(pid) from pg_stat_activity where usename in ('reader', 'keeper')");
    await redis.call("CLIENT", "KILL", "USER", user);
  };
  const arrived = async (id: number) => {
    await source.query(`insert into public.item values (${id})`);
    await eventually(async () => expect(await redis.exists(`${prefix.prefix}public:item:${id}`)).toBe(1));
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
