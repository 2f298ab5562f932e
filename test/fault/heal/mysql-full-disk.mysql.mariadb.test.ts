/**
 * The disk with the log of the source is full: the server keeps who commits waiting, without an error. It is told where, and
 * what may be the reason; all goes on when there is room.
 * @module-tag heavy
 */
import { chmod } from "node:fs/promises";
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createConnection } from "mysql2/promise";
import { expect, test } from "vitest";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { expectFirstSaid, expectWell, literally } from "../../support/daemon/told.ts";
import { SmallDisk } from "../../support/faults/small-disk.ts";
import { mysqlFlavours, ownMysql } from "../../support/run/services.ts";

test.for(mysqlFlavours)("a %s source whose log has no room", async (flavour, { skip }) => {
  await using disk = await SmallDisk.mount("24m");
  skip(disk === null, "mounting a file system needs a privilege");
  if (disk === null) return;
  await chmod(disk.folder, 0o777);
  await using server = await ownMysql(flavour, { settings: { "log-bin": join(disk.folder, "binlog") } });
  const connection = await createConnection({ uri: server.url });
  const statements = ["create database shop", "create table shop.item (id int primary key, body longtext)"];
  for (const sql of statements) await connection.query(sql);
  await using installation = new Installation({
    name: "shop",
    source: { kind: "mysql", url: `mysql://root@${server.host}:${server.port}/shop`, heartbeat: "500ms" },
    sinks: { warehouse: { kind: "duckdb", path: "./warehouse.duckdb" } },
  });
  installation.run();
  await expectWell(installation);
  const filler = join(disk.folder, "filler");
  const piece = Buffer.alloc(4 * 1024);
  expect(() => {
    for (;;) writeFileSync(filler, piece, { flag: "a" });
  }).toThrow("ENOSPC");
  const stuck = connection.query("insert into shop.item values (1, repeat('x', 200000))");
  await expectFirstSaid(installation, [
    /the source does not tell its position, connected until/,
    /MR2006 commits wait at the server/,
    literally(`${server.host}:${server.port}`),
    literally(`the disk of ${disk.folder} is full`),
    /the sinks are fine/,
  ]);
  truncateSync(filler);
  await stuck;
  connection.destroy();
  await expectWell(installation);
});
