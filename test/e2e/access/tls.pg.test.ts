/** The daemon over TLS to a source and a target that take nothing else, and what is said where TLS fails. */
import { readFileSync } from "node:fs";
import { copyFile, mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RunningPostgres } from "../../../scripts/services/servers/postgres/postgres.ts";
import type { Checked } from "../../support/postgres/administer.ts";
import { type Certificate, selfSigned } from "../../support/network/certificate.ts";
import { runCli } from "../../support/daemon/cli.ts";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { ownPostgres } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const ROW_COUNT = 4_000;

class Site implements AsyncDisposable {
  readonly server: RunningPostgres;
  readonly admin: Client;

  private constructor(server: RunningPostgres, admin: Client) {
    this.server = server;
    this.admin = admin;
  }

  /** A server with these lines of pg_hba.conf, and on it a database `shop` with rows and an empty `warehouse`. */
  static async create(tls: Certificate | undefined, auth: readonly string[], ca?: Certificate): Promise<Site> {
    const files = tls && { ...tls, ...(ca === undefined ? {} : { caPath: ca.certificatePath }) };
    const settings = { log_connections: "on" };
    const server = await ownPostgres({ auth, settings, ...(files === undefined ? {} : { tls: files }) });
    const at = (database: string) => ({ host: server.socketDir, port: server.port, user: "postgres", database });
    const first = new Client(at("postgres"));
    await first.connect();
    await first.query("create database shop");
    await first.query("create database warehouse");
    await first.end();
    const admin = new Client(at("shop"));
    await admin.connect();
    await admin.query(`create table a (id int primary key, body text); create table b (id int primary key, body text);
      insert into a select g, repeat(md5(g::text), 8) from generate_series(1, ${ROW_COUNT}) g;
      insert into b select * from a`);
    return new Site(server, admin);
  }

  url(database: string, parameters: Readonly<Record<string, string>>, host = "localhost"): string {
    return `postgres://postgres@${host}:${this.server.port}/${database}?${new URLSearchParams(parameters).toString()}`;
  }

  /** As if no daemon had been there yet. */
  async reset(): Promise<void> {
    await this.admin.query(
      "drop publication if exists millrace_shop; delete from a where id = 0; update b set body = 'y'",
    );
    await eventually(() => this.admin.query("select pg_drop_replication_slot(slot_name) from pg_replication_slots"));
    await this.admin.query("drop database warehouse with (force)");
    await this.admin.query("create database warehouse");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.admin.end();
    await this.server[Symbol.asyncDispose]();
  }
}

interface Session {
  /** A database, or `replication`. */
  readonly to: string;
  readonly isEncrypted: boolean;
}

/** The sessions that the server has let the daemon and its commands begin, by its log. */
function sessionsOf({ server }: Site): readonly Session[] {
  const log = readFileSync(server.logPath!, "utf8");
  const authorized =
    /(replication )?connection authorized: user=\S+ (?:database=(\S+) )?application_name=millrace( SSL enabled)?/g;
  return [...log.matchAll(authorized)].map(([, replication, database, ssl]) => ({
    to: replication === undefined ? database! : "replication",
    isEncrypted: ssl !== undefined,
  }));
}

async function captured(site: Site, parameters: Readonly<Record<string, string>>, host?: string): Promise<void> {
  await site.reset();
  await using installation = new Installation({
    name: "shop",
    source: { kind: "postgres", url: site.url("shop", parameters, host), heartbeat: "300ms" },
    sinks: { replica: { kind: "postgres", url: site.url("warehouse", parameters, host) } },
  });
  const before = sessionsOf(site).length;
  const daemon = installation.run();
  await daemon.streaming();
  await site.admin.query("insert into a values (0, 'streamed'); update b set body = 'x' where id <= 100");
  expect(await installation.command("wait", "--timeout", "240s")).toMatchObject({ exitCode: 0 });
  const sessions = sessionsOf(site).slice(before);
  expect(sessions.filter(({ isEncrypted }) => !isEncrypted)).toEqual([]);
  expect(new Set(sessions.map(({ to }) => to))).toEqual(new Set(["shop", "warehouse", "replication"]));
  const there = new Client({
    host: site.server.socketDir,
    port: site.server.port,
    user: "postgres",
    database: "warehouse",
  });
  await there.connect();
  const { rows } = await there.query(
    "select (select count(*)::int from a) as a, (select count(*)::int from b where body = 'x') as b",
  );
  await there.end();
  expect(rows).toEqual([{ a: ROW_COUNT + 1, b: 100 }]);
  expect((await daemon.stop()).exitCode).toBe(0);
}

/** How the daemon ends, with what code and advice; the same failure at the source and at the target. */
async function refused(site: Site, parameters: Readonly<Record<string, string>>, host?: string) {
  const broken = site.url("shop", parameters, host);
  await using installation = new Installation({
    name: "shop",
    source: { kind: "postgres", url: broken },
    sinks: { replica: { kind: "postgres", url: broken } },
  });
  const { exitCode, stdout } = await installation.command("run", "--once", "--json");
  const { error }: { error: { code: string; message: string; hint: string } } = JSON.parse(stdout);
  const check: Checked = JSON.parse((await installation.command("check", "--json")).stdout);
  const findings = check.findings.filter(({ level }) => level === "error");
  const sink = findings.find(({ part }) => part === "replica");
  expect(findings.find(({ part }) => part === "source")?.fix).toBe(error.hint);
  return {
    exitCode,
    code: error.code,
    said: `${error.message} -> ${error.hint}`,
    sink: `${sink?.what} -> ${sink?.fix}`,
  };
}

const DAY_MS = 86_400_000;

describe("a server that takes TLS alone", () => {
  let named: Certificate;
  let other: Certificate;
  let site: Site;
  beforeAll(async () => {
    [named, other] = await Promise.all([selfSigned(["localhost"]), selfSigned(["localhost"])]);
    site = await Site.create(named, ["hostssl all all 127.0.0.1/32 trust"]);
  });
  afterAll(async () => {
    await site[Symbol.asyncDispose]();
    await Promise.all([named, other].map((files) => files[Symbol.asyncDispose]()));
  });

  const trusting = (sslmode: string) => ({ sslmode, sslrootcert: named.certificatePath });

  test("sslmode=verify-full", async () => {
    await captured(site, trusting("verify-full"));
  });

  // What each means is in integration/postgres-connect.
  test.each(["prefer", "require", "verify-ca"])("sslmode=%s", { tags: "heavy" }, async (sslmode) => {
    await captured(site, sslmode === "verify-ca" ? trusting(sslmode) : { sslmode });
  });

  test("the name counts with verify-full alone", { tags: "heavy" }, async () => {
    const trusted = { sslrootcert: named.certificatePath };
    await captured(site, { sslmode: "verify-ca", ...trusted }, "127.0.0.1");
    const result = await refused(site, { sslmode: "verify-full", ...trusted }, "127.0.0.1");
    expect(result).toMatchObject({ exitCode: 1, code: "MR2003" });
    for (const said of [result.said, result.sink]) expect(said).toMatch(/another name.* -> .*sslmode=verify-ca/);
    expect(result.sink).toContain("MR2003");
  });

  test.each(["require", "verify-ca", "verify-full"])(
    "another authority, sslmode=%s",
    { tags: "heavy" },
    async (sslmode) => {
      const result = await refused(site, { sslmode, sslrootcert: other.certificatePath });
      expect(result).toMatchObject({ exitCode: 1, code: "MR2003" });
      for (const said of [result.said, result.sink])
        expect(said).toMatch(/not signed by an authority.* -> .*sslrootcert/);
    },
  );

  test("without TLS it is said what to set", async () => {
    const result = await refused(site, { sslmode: "disable" });
    expect(result).toMatchObject({ exitCode: 1, code: "MR2003" });
    for (const said of [result.said, result.sink]) expect(said).toMatch(/without TLS.* -> .*sslmode=require/);
  });

  test("the state's server is reached as a source is, from any folder", { tags: "heavy" }, async () => {
    const { certificatePath, keyPath } = named;
    await using installation = new Installation({ name: "shop" });
    await mkdir(join(installation.folder, "tls"));
    await copyFile(certificatePath, join(installation.folder, "tls/ca.pem"));
    const check = async (parameters: Readonly<Record<string, string>>, host?: string) => {
      const source = { kind: "postgres", url: site.url("shop", { sslmode: "require" }) };
      const state = site.url("warehouse", parameters, host);
      installation.configure({ name: "shop", source, state, sinks: { file: { kind: "duckdb", path: "./w.duckdb" } } });
      const file = join(installation.folder, "millrace.yaml");
      const { exitCode, stdout } = await runCli(["check", "-c", file, "--json"], { folder: tmpdir() });
      const { findings }: Checked = JSON.parse(stdout);
      const own = findings.find(({ part }) => part === "state");
      return `${exitCode} ${own?.what} -> ${own?.fix}`;
    };
    const trusted = { sslmode: "verify-full", sslrootcert: "tls/ca.pem" };
    expect(await check(trusted)).toMatch(/^0 /);
    expect(await check(trusted, "127.0.0.1")).toMatch(/^1 .*another name.* -> .*sslmode=verify-ca/);
    expect(await check({ sslmode: "verify-full", sslrootcert: other.certificatePath })).toMatch(
      /^1 TLS with the state's server .*not signed by.* -> .*sslrootcert/,
    );
    expect(await check({ ...trusted, sslrootcert: "nowhere.pem" })).toMatch(
      /^1 .*sslrootcert can't be read.* -> .*path/,
    );
    expect(await check({ ...trusted, sslrootcert: keyPath })).toMatch(/^1 .*sslrootcert holds no certificate/);
    expect(await check({ sslmode: "disable" })).toMatch(/^1 .*without TLS.* -> .*sslmode=require/);
    expect(await check({ sslmode: "verify" })).toMatch(/^1 the state's url .*verify-full/);
  });

  test("a file that is not there, and a mode that is none", { tags: "long" }, async () => {
    const missing = await refused(site, { sslmode: "verify-full", sslrootcert: "/nowhere/ca.pem" });
    expect(missing).toMatchObject({
      exitCode: 1,
      code: "MR2004",
      said: expect.stringContaining("sslrootcert can't be read"),
    });
    const mode = await refused(site, { sslmode: "verify" });
    expect(mode).toMatchObject({ exitCode: 1, code: "MR2004", said: expect.stringContaining("verify-full") });
  });
});

test("a certificate that has expired", { tags: "heavy" }, async () => {
  await using expired = await selfSigned(["localhost"], Date.now() - DAY_MS);
  await using site = await Site.create(expired, ["hostssl all all 127.0.0.1/32 trust"]);
  const result = await refused(site, { sslmode: "verify-full", sslrootcert: expired.certificatePath });
  expect(result).toMatchObject({ exitCode: 1, code: "MR2003" });
  for (const said of [result.said, result.sink]) expect(said).toMatch(/has expired.* -> Renew/);
});

test("a server without TLS", { tags: "heavy" }, async () => {
  await using site = await Site.create(undefined, ["host all all 127.0.0.1/32 trust"]);
  const result = await refused(site, { sslmode: "require" });
  expect(result).toMatchObject({ exitCode: 1, code: "MR2003" });
  for (const said of [result.said, result.sink]) expect(said).toMatch(/does not speak TLS.* -> Set ssl = on/);
});

test("client certificates", { tags: "heavy" }, async () => {
  await using named = await selfSigned(["localhost"]);
  await using client = await selfSigned(["client"]);
  await using stranger = await selfSigned(["client"]);
  await using site = await Site.create(named, ["hostssl all all 127.0.0.1/32 trust clientcert=verify-ca"], client);
  const server = { sslmode: "verify-full", sslrootcert: named.certificatePath };
  await captured(site, { ...server, sslcert: client.certificatePath, sslkey: client.keyPath });
  const cases = [
    [{}, /wants a client certificate.* -> .*sslcert/],
    [
      { sslcert: stranger.certificatePath, sslkey: stranger.keyPath },
      /does not accept the client's certificate.* -> .*ssl_ca_file/,
    ],
    [{ sslcert: client.certificatePath, sslkey: stranger.keyPath }, /certificate and key can't be used/],
  ] as const;
  for (const [own, said] of cases) {
    const result = await refused(site, { ...server, ...own });
    expect(result).toMatchObject({ exitCode: 1, code: "MR2003", said: expect.stringMatching(said) });
    expect(result.sink).toMatch(said);
  }
});
