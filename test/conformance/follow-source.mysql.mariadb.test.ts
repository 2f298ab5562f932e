/**
 * The same from MySQL and MariaDB.
 * @module-tag heavy
 */
import { sourceFactory } from "../../connectors/mysql/source/config.ts";
import { followedSource, FOLLOW_HAS_NONE, StoredPositions } from "../support/library/followed-source.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { freshMysqlDatabase, mysqlFlavours, mysqlUrl } from "../support/run/services.ts";
import { sourceConformance } from "./source.ts";

for (const flavour of mysqlFlavours) {
  sourceConformance({
    name: `${flavour}, through follow`,
    without: FOLLOW_HAS_NONE,
    async stage() {
      const database = await freshMysqlDatabase(mysqlUrl(flavour));
      const { name, connection } = database;
      const url = new URL(mysqlUrl(flavour));
      url.pathname = `/${name}`;
      const options = { url: url.href };
      const tables = [`${name}.*`];
      const stored = new StoredPositions();
      return {
        open: async () => {
          const direct = await sourceFactory.create({ daemon: name, folder: ".", tables, options }, quietLog);
          return followedSource({ source: { kind: "mysql", ...options }, tables, name }, direct, stored);
        },
        run: async (statements, end = "commit") => {
          for (const sql of ["begin", ...statements, end]) await connection.query(sql);
        },
        create: (table, isKeyed) =>
          `create table ${table} (id int ${isKeyed ? "primary key" : "not null"}, name varchar(100), amount int) character set utf8mb4`,
        id: (table) => `${name}.${table}`,
        [Symbol.asyncDispose]: () => database[Symbol.asyncDispose](),
      };
    },
  });
}
