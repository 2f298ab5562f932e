/**
 * A server presents a certificate for another host, then one that has expired, while the daemon runs: what a person on call is
 * told first, by `status` and `explain` alone. Sinks that speak HTTP, and Redis, are in sink-breaks.
 * @module-tag heavy
 */
import { appendFile, chmod, copyFile, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { createConnection, type RowDataPacket } from "mysql2/promise";
import { Client } from "pg";
import { afterAll, beforeAll, describe, test } from "vitest";
import { GuardedKafka } from "../../support/kafka/guarded-kafka.ts";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { expectExplained, expectFirstSaid, expectWell, literally } from "../../support/daemon/told.ts";
import { type Certificate, selfSigned } from "../../support/network/certificate.ts";
import { freshDatabase, mysqlFlavours, ownMysql, ownPostgres } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";
import { type TemporaryFolder, temporaryFolder } from "../../support/run/temporary-folder.ts";

let good: Certificate;
let foreign: Certificate;
let expired: Certificate;
/** With all of them as authorities. */
let files: TemporaryFolder;
let ca: string;

beforeAll(async () => {
  good = await selfSigned(["localhost"]);
  foreign = await selfSigned(["elsewhere.example"]);
  expired = await selfSigned(["localhost"], Date.now() - 86_400_000);
  files = temporaryFolder();
  ca = files.file("ca.pem");
  await writeFile(ca, [good, foreign, expired].map(({ certificate }) => certificate).join(""));
});

afterAll(async () => {
  files?.[Symbol.dispose]();
  for (const one of [good, foreign, expired]) await one?.[Symbol.asyncDispose]();
});

/** `present` makes the server show the certificate to all that connect, and write a row. */
async function expectTold(
  installation: Installation,
  present: (certificate: Certificate) => Promise<void>,
  parts: readonly RegExp[],
): Promise<void> {
  await expectWell(installation);
  for (const [certificate, ...says] of [
    [foreign, /for another name/, /serverName|verify-ca|VERIFY_CA/],
    [expired, /has expired/, /Renew the (?:broker's )?certificate/],
  ] as const) {
    await present(certificate);
    await expectFirstSaid(installation, [/MR2003/, ...parts, ...says]);
    await expectExplained(installation, "MR2003");
  }
  await present(good);
  await expectWell(installation);
}

test("Postgres, as source and as target", async () => {
  await using server = await ownPostgres({
    auth: ["hostssl all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 reject"],
    tls: good,
  });
  const admin = new Client({ host: server.socketDir, port: server.port, user: "postgres", database: "postgres" });
  await admin.connect();
  await using _ = { [Symbol.asyncDispose]: () => admin.end() };
  await admin.query("create table item (id int primary key, n int); insert into item values (1, 1)");
  const { rows } = await admin.query<{ data_directory: string }>("show data_directory");
  const folder = rows[0]!.data_directory;
  const present = async ({ certificatePath, keyPath }: Certificate): Promise<void> => {
    await copyFile(certificatePath, join(folder, "ssl_cert_file.pem"));
    await writeFile(join(folder, "ssl_key_file.pem"), await readFile(keyPath));
    await admin.query("select pg_reload_conf()");
    await admin.query("select pg_terminate_backend(pid) from pg_stat_activity where client_addr is not null");
    await admin.query("update item set n = n + 1");
  };
  const query = new URLSearchParams({ sslmode: "verify-full", sslrootcert: ca }).toString();
  const url = `postgres://postgres@localhost:${server.port}/postgres?${query}`;
  {
    await using installation = new Installation({
      name: "certified",
      source: { kind: "postgres", url, heartbeat: "500ms" },
      sinks: { replica: { kind: "sqlite", path: "./replica.sqlite" } },
    });
    installation.run();
    await expectTold(installation, present, [
      /source/i,
      literally(`localhost:${server.port}`),
      /since|until|for \d+ s/,
    ]);
  }
  await using source = await freshDatabase();
  await source.query("create table item (id int primary key, n int); insert into item values (1, 1)");
  await using installation = new Installation({
    name: source.name,
    source: { kind: "postgres", url: source.url, heartbeat: "500ms" },
    sinks: { target: { kind: "postgres", url, schema: "copied" } },
  });
  installation.run();
  const shown = async (certificate: Certificate): Promise<void> => {
    await present(certificate);
    await source.query("update item set n = n + 1");
  };
  await expectTold(installation, shown, [/sink target does not take rows/i, literally(`localhost:${server.port}`)]);
});

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("as source", async () => {
    const [cert, key] = [files.file(`${flavour}-cert.pem`), files.file(`${flavour}-key.pem`)];
    const put = async ({ certificatePath, keyPath }: Certificate): Promise<void> => {
      await copyFile(certificatePath, cert);
      await copyFile(keyPath, key);
      // The server runs as a user of its own.
      await chmod(dirname(key), 0o755);
      for (const path of [cert, key]) await chmod(path, 0o644);
    };
    await put(good);
    await using server = await ownMysql(flavour, { settings: { "ssl-cert": cert, "ssl-key": key } });
    const admin = await createConnection({ uri: server.url });
    await using _ = { [Symbol.asyncDispose]: () => admin.end() };
    for (const sql of [
      "create database shop",
      "create table shop.item (id int primary key, n int)",
      "insert into shop.item values (1, 1)",
      "create user reader@'%'",
      "grant all on *.* to reader@'%'",
    ])
      await admin.query(sql);
    const present = async (certificate: Certificate): Promise<void> => {
      // The server takes none that has expired: it is one that it has when it expires.
      const endsMs = Date.now() + 2_000;
      await using soon = await selfSigned(["localhost"], endsMs);
      if (certificate === expired) await appendFile(ca, soon.certificate);
      await put(certificate === expired ? soon : certificate);
      await admin.query(flavour === "mysql" ? "alter instance reload tls" : "flush ssl");
      if (certificate === expired) await eventually(() => Date.now() > endsMs + 1_000);
      const sessions = "select id as id from information_schema.processlist where user = 'reader'";
      const [rows] = await admin.query<({ readonly id: number } & RowDataPacket)[]>(sessions);
      // Some end meanwhile by themselves.
      for (const { id } of rows) await admin.query(`kill ${id}`).catch(() => undefined);
      await admin.query("update shop.item set n = n + 1");
    };
    const query = new URLSearchParams({ "ssl-mode": "VERIFY_IDENTITY", "ssl-ca": ca }).toString();
    await using installation = new Installation({
      name: "certified",
      source: { kind: "mysql", url: `mysql://reader@localhost:${server.port}/shop?${query}`, heartbeat: "500ms" },
      sinks: { replica: { kind: "sqlite", path: "./replica.sqlite" } },
    });
    installation.run();
    await expectTold(installation, present, [/source/i, literally(`localhost:${server.port}`)]);
  });
});

test("Kafka, as sink", async () => {
  await using guarded = await GuardedKafka.start();
  await using source = await freshDatabase();
  await source.query("create table item (id int primary key, n int); insert into item values (1, 1)");
  const brokers = [`localhost:${guarded.port("tls")}`];
  await using installation = new Installation({
    name: source.name,
    source: { kind: "postgres", url: source.url, heartbeat: "500ms" },
    sinks: { topics: { kind: "kafka", brokers, tls: { ca }, topics: { partitions: 1 } } },
  });
  const present = async ({ certificate, keyPath }: Certificate): Promise<void> => {
    await writeFile(join(guarded.folder, "server.pem"), (await readFile(keyPath, "utf8")) + certificate);
    await guarded.broker.stop();
    await guarded.broker.start();
    await source.query("update item set n = n + 1");
  };
  await present(good);
  installation.run();
  await expectTold(installation, present, [/sink topics does not take rows/i, literally(brokers[0]!)]);
});
