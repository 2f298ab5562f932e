/** The daemon over TLS to servers that take nothing else, and what is said where TLS fails. */
import { chmod } from "node:fs/promises";
import { dirname } from "node:path";
import { createConnection } from "mysql2/promise";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RunningService } from "../../../scripts/services/service.ts";
import type { Checked } from "../../support/postgres/administer.ts";
import { type Certificate, selfSigned } from "../../support/network/certificate.ts";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { type MysqlFlavour, mysqlFlavours, ownMysql } from "../../support/run/services.ts";

const ROWS =
  "insert into shop.t (v) select concat('v', seq) from (select 1 as seq union all select 2 union all select 3) s";
/** Without TLS, whatever the server would choose by itself. */
const PLAIN = { mysql: { "tls-version": "" }, mariadb: {} } as const;

/** One that takes no connection without TLS. */
async function startEncrypted(
  flavour: MysqlFlavour,
  { certificatePath, keyPath }: Certificate,
): Promise<RunningService> {
  // The server runs as a user of its own.
  await chmod(dirname(keyPath), 0o755);
  await chmod(keyPath, 0o644);
  return await ownMysql(flavour, {
    settings: { "ssl-cert": certificatePath, "ssl-key": keyPath, "require-secure-transport": "ON" },
  });
}

function urlOf({ port }: RunningService, parameters: Readonly<Record<string, string>>, host = "localhost"): string {
  return `mysql://root@${host}:${port}/shop?${new URLSearchParams(parameters).toString()}`;
}

function installationAt(url: string): Installation {
  return new Installation({
    name: "shop",
    source: { kind: "mysql", url, heartbeat: "300ms" },
    sinks: { warehouse: { kind: "duckdb", path: "./warehouse.duckdb" } },
  });
}

/** A copy, and the stream behind it to its end. */
async function captured(url: string, write: () => Promise<void>): Promise<void> {
  await using installation = installationAt(url);
  await write();
  const { exitCode, stderr } = await installation.command("run", "--once");
  expect({ exitCode, stderr: exitCode === 0 ? "" : stderr }).toEqual({ exitCode: 0, stderr: "" });
}

/** How a start ends, and that `check` says the same. */
async function refused(url: string): Promise<{ exitCode: number | null; code: string; said: string }> {
  await using installation = installationAt(url);
  const { exitCode, stdout } = await installation.command("run", "--once", "--json");
  const { error }: { error: { code: string; message: string; hint: string } } = JSON.parse(stdout);
  const check: Checked = JSON.parse((await installation.command("check", "--json")).stdout);
  const finding = check.findings.find(({ level, part }) => level === "error" && part === "source");
  expect(finding?.fix).toBe(error.hint);
  return { exitCode, code: error.code, said: `${error.message} -> ${error.hint}` };
}

describe.each(mysqlFlavours)("%s that takes TLS alone", (flavour) => {
  let named: Certificate;
  let other: Certificate;
  let server: RunningService;
  beforeAll(async () => {
    [named, other] = await Promise.all([selfSigned(["localhost"]), selfSigned(["localhost"])]);
    server = await startEncrypted(flavour, named);
    await query("create database shop", "create table shop.t (id int auto_increment primary key, v varchar(20))");
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    await Promise.all([named, other].map((files) => files[Symbol.asyncDispose]()));
  });

  async function query(...statements: readonly string[]): Promise<void> {
    const connection = await createConnection({ uri: server.url, ssl: { rejectUnauthorized: false } });
    for (const sql of statements) await connection.query(sql);
    await connection.end();
  }
  const write = (): Promise<void> => query(ROWS);

  test.each(["PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"])("ssl-mode=%s", async (mode) => {
    const trusted = mode.startsWith("VERIFY") ? { "ssl-ca": named.certificatePath } : {};
    await captured(urlOf(server, { "ssl-mode": mode, ...trusted }), write);
  });

  test("the name counts with VERIFY_IDENTITY alone", { tags: "heavy" }, async () => {
    const trusted = { "ssl-ca": named.certificatePath };
    await captured(urlOf(server, trusted, "127.0.0.1"), write);
    const result = await refused(urlOf(server, { "ssl-mode": "VERIFY_IDENTITY", ...trusted }, "127.0.0.1"));
    expect(result).toMatchObject({ exitCode: 1, code: "MR2003" });
    expect(result.said).toMatch(/another name.* -> .*ssl-mode=VERIFY_CA/);
  });

  test.each(["VERIFY_CA", "VERIFY_IDENTITY"])("another authority, ssl-mode=%s", { tags: "heavy" }, async (mode) => {
    const result = await refused(urlOf(server, { "ssl-mode": mode, "ssl-ca": other.certificatePath }));
    expect(result).toMatchObject({ exitCode: 1, code: "MR2003" });
    expect(result.said).toMatch(/not signed by an authority.* -> .*ssl-ca/);
  });

  test("without TLS it is said what to set", async () => {
    const result = await refused(urlOf(server, { "ssl-mode": "DISABLED" }));
    // MariaDB refuses it as it does a wrong password.
    expect(result).toMatchObject({ exitCode: 1, code: flavour === "mysql" ? "MR2003" : "MR2002" });
    expect(result.said).toMatch(/-> .*ssl-mode=REQUIRED/);
    expect(result.said).toMatch(/requires TLS/);
  });

  test("a server without TLS", async () => {
    await using plain = await ownMysql(flavour, { settings: PLAIN[flavour] });
    const result = await refused(urlOf(plain, { "ssl-mode": "REQUIRED" }));
    expect(result).toMatchObject({ exitCode: 1, code: "MR2003" });
    expect(result.said).toMatch(/does not speak TLS.* -> .*ssl-mode=DISABLED/);
  });
});
