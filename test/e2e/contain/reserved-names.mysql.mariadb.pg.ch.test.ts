/**
 * Databases whose names a target keeps for itself: their tables are suspended there, the others go on.
 * @module-tag heavy
 */
import { describe, expect, test } from "vitest";
import type { StatusDocument } from "../../../src/core/contracts/status.ts";
import { clickhouseUrl, freshDatabase, mysqlFlavours } from "../../support/run/services.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { askClickhouse, nameIn } from "../../support/warehouses/clickhouse-values.ts";
import { eventually } from "../../support/run/waiting.ts";

/** Where each sink can't write tables of these databases. */
const RESERVED: Readonly<Record<string, readonly string[]>> = {
  _millrace: ["duckdb", "postgres"],
  _temporary_and_external_tables: ["clickhouse"],
  millrace: ["clickhouse"],
  pg_catalog: ["duckdb", "postgres"],
  pg_other: ["postgres"],
  system: ["clickhouse"],
};
const DATABASES = Object.keys(RESERVED);

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("a sink suspends the tables that it has no name for, at its first start, at later ones, and as a new sink", async () => {
    await using target = await freshDatabase();
    await using pipeline = await MysqlPipeline.start(flavour, ["create table held (id int primary key, n int)"], {
      kinds: [],
      sinks: () => ({ files: { kind: "files", path: "./changes" } }),
    });
    const { source, installation } = pipeline;
    const { connection, name: own } = source;
    const configure = (sinks: Readonly<Record<string, object>>) =>
      installation.configure({
        name: own,
        source: {
          kind: "mysql",
          url: pipeline.url,
          heartbeat: "500ms",
          tables: [own, ...DATABASES].map((database) => `${database}.*`),
        },
        sinks,
      });
    const expected = DATABASES.flatMap((database) => RESERVED[database]!.map((sink) => `${sink} ${database}.t`));
    const suspended = async (): Promise<string[]> => {
      const { tables } = (await installation.ask<StatusDocument>("GET", "/api/v1/status"))!;
      return tables.suspended.map(({ sink, table }) => `${sink} ${table}`).toSorted();
    };
    const held = async (count: number): Promise<void> => {
      await eventually(async () => {
        const { rows } = await target.query(`select count(*)::int as n from "${own}".held`);
        expect(rows).toEqual([{ n: count }]);
      });
      await eventually(async () => {
        const rows = await askClickhouse(clickhouseUrl(), `SELECT count() FROM ${nameIn(own, "held_current")}`);
        expect(rows).toEqual([[String(count)]]);
      });
      const { stdout } = await installation.command("query", `select count(*)::int as n from "${own}".held`, "--json");
      expect(JSON.parse(stdout)).toMatchObject({ rows: [{ n: count }] });
    };
    try {
      for (const database of DATABASES) {
        await connection.query(`create database \`${database}\``);
        await connection.query(`create table \`${database}\`.t (id int primary key)`);
        await connection.query(`insert into \`${database}\`.t values (1)`);
      }
      await pipeline.run("insert into held values (1, 1)");
      await pipeline.daemon.stop();
      configure({ files: { kind: "files", path: "./changes" } });
      await pipeline.start();
      await pipeline.daemon.stop();
      // The tables are known when these sinks are opened for the first time.
      configure({
        files: { kind: "files", path: "./changes" },
        duckdb: { kind: "duckdb", path: "./warehouse.duckdb" },
        postgres: { kind: "postgres", url: target.url },
        clickhouse: { kind: "clickhouse", url: clickhouseUrl() },
      });
      await pipeline.start();
      await eventually(async () => expect(await suspended()).toEqual(expected.toSorted()), { withinMs: 30_000 });
      await pipeline.run("insert into held values (2, 2)");
      for (const database of DATABASES) await connection.query(`insert into \`${database}\`.t values (2)`);
      await held(2);
      const { stdout } = await installation.command("check");
      const refused = stdout.split("\n").filter((line) => line.includes("can't be written to"));
      expect(
        refused.map((line) => /^ERROR +(\S+): table (\S+) /.exec(line)?.slice(1).join(" ") ?? line).toSorted(),
      ).toEqual(expected.toSorted());
      await pipeline.daemon.stop();
      await pipeline.start();
      await pipeline.run("insert into held values (3, 3)");
      await held(3);
      expect(await suspended()).toEqual(expected.toSorted());
      expect(pipeline.daemon.exited).toBe(false);
    } finally {
      for (const database of DATABASES) await connection.query(`drop database if exists \`${database}\``);
      await askClickhouse(clickhouseUrl(), `DROP DATABASE IF EXISTS ${nameIn(own)}`);
    }
  });
});
