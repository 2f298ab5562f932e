/** The same where the captured database is MySQL or MariaDB. */
import type { TestContext } from "vitest";
import { captured, COPIES_NOTHING } from "../support/kafka/captured.ts";
import { isLongForm } from "../support/run/service-suffixes.ts";
import { freshMysqlDatabase, mysqlFlavours, mysqlUrl } from "../support/run/services.ts";
import { sourceConformance } from "./source.ts";

for (const flavour of mysqlFlavours) {
  sourceConformance({
    name: `kafka, of ${flavour}`,
    without: COPIES_NOTHING,
    async stage({ skip }: TestContext) {
      skip(!isLongForm(), "it is part of the long form");
      const database = await freshMysqlDatabase(mysqlUrl(flavour));
      const { name, connection } = database;
      const url = new URL(mysqlUrl(flavour));
      url.pathname = `/${name}`;
      return {
        ...captured(name, { kind: "mysql", url: url.href, tables: [`${name}.*`] }, database),
        run: async (statements, end = "commit") => {
          for (const sql of ["begin", ...statements, end]) await connection.query(sql);
        },
        create: (table, isKeyed) =>
          `create table ${table} (id int ${isKeyed ? "primary key" : "not null"}, name varchar(100), amount int) character set utf8mb4`,
        id: (table) => `${name}.${table}`,
      };
    },
  });
}
