/** The catalogue is read by several statements; tables change between them. */
import { describe, expect, test } from "vitest";
import { CatalogReader, type CatalogTable } from "../../connectors/mysql/source/catalog/catalog.ts";
import { type FreshMysqlDatabase, freshMysqlDatabase, mysqlFlavours, mysqlUrl } from "../support/run/services.ts";

/** Not read here: not every server has them. */
const VIEWS = ["CHECK_CONSTRAINTS", "INNODB_TABLESPACES", "INNODB_SYS_TABLES"];
const signal = AbortSignal.timeout(100_000);

/** A reader before whose statement about indexes, each time, the next of `statements` is executed. */
class Reader {
  indexReadings = 0;
  readonly #database: FreshMysqlDatabase;
  readonly #catalog: CatalogReader;
  readonly statements: string[] = [];

  constructor(database: FreshMysqlDatabase) {
    this.#database = database;
    const rows = (_: string, sql: string): Promise<(string | null)[][]> => this.#rows(sql);
    this.#catalog = new CatalogReader({ rows }, VIEWS);
  }

  async read(): Promise<readonly CatalogTable[]> {
    const tables = await this.#catalog.read(null, signal);
    return tables.filter(({ schema }) => schema === this.#database.name);
  }

  async #rows(sql: string): Promise<(string | null)[][]> {
    if (sql.includes("information_schema.statistics")) {
      this.indexReadings++;
      const next = this.statements.shift();
      if (next !== undefined) await this.#database.connection.query(next);
    }
    return await this.#database.texts(sql);
  }
}

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("a table that is dropped or altered in between is not one without a key", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl(flavour));
    const reader = new Reader(database);
    await database.connection.query("create table t (id int primary key, v int)");
    reader.statements.push("drop table t");
    expect(await reader.read()).toEqual([]);
    await database.connection.query("create table t (id int primary key, v int)");
    reader.statements.push("alter table t drop column id, add column nr int auto_increment primary key");
    expect(await reader.read()).toMatchObject([
      { primary: { columns: ["nr"] }, columns: [{ name: "v" }, { name: "nr" }] },
    ]);
  });

  test("a table without a key is read twice once", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl(flavour));
    const reader = new Reader(database);
    await database.connection.query("create table t (v int)");
    expect(await reader.read()).toMatchObject([{ table: "t", primary: undefined }]);
    const { indexReadings } = reader;
    expect(await reader.read()).toMatchObject([{ table: "t", primary: undefined }]);
    expect(reader.indexReadings).toBe(indexReadings + 1);
  });

  test("a table with partitions, in which the server counts rows where none are, is not yet filled", async () => {
    await using database = await freshMysqlDatabase(mysqlUrl(flavour));
    const { connection, name: schema } = database;
    await connection.query("create table t (id int primary key) partition by hash (id) partitions 2");
    const catalog = new CatalogReader({
      rows: async (_, sql) => (sql.startsWith("SET") ? [] : await database.texts(sql)),
    });
    const tables = [{ id: `${schema}.t`, schema, table: "t" }];
    for (const seconds of [1_700_000_000, 1_700_000_060]) {
      await connection.query(`set timestamp = ${seconds}`);
      expect(await catalog.quietTables(flavour.startsWith("mysql") ? "mysql" : "mariadb", tables, signal)).toEqual([]);
    }
  });
});
