/** A database of a test's own on a MySQL or MariaDB server, and a session in it. */
import { randomUUID } from "node:crypto";
import { createConnection, type Connection } from "mysql2/promise";

export interface FreshMysqlDatabase extends AsyncDisposable {
  readonly name: string;
  readonly connection: Connection;
  /** The rows of a statement, each a list of the values' text forms as the server prints them. */
  texts(sql: string): Promise<(string | null)[][]>;
}

export async function createFreshMysqlDatabase(url: string): Promise<FreshMysqlDatabase> {
  return await openMysqlDatabase(url, `test_${randomUUID().replaceAll("-", "").slice(0, 12)}`);
}

/** One that may be there already. */
export async function openMysqlDatabase(url: string, name: string): Promise<FreshMysqlDatabase> {
  const connection = await createConnection({
    uri: url,
    charset: "utf8mb4",
    rowsAsArray: true,
    // Every value as the server printed it.
    typeCast: (field) => field.string("utf8"),
  });
  await connection.query(`CREATE DATABASE IF NOT EXISTS \`${name}\``);
  await connection.query(`USE \`${name}\``);
  return {
    name,
    connection,
    async texts(sql) {
      const [rows] = await connection.query(sql);
      if (!Array.isArray(rows)) throw new Error("the statement has no rows");
      return rows.map((row) =>
        Array.isArray(row) ? row.map((value: unknown) => (typeof value === "string" ? value : null)) : [],
      );
    },
    async [Symbol.asyncDispose]() {
      connection.destroy();
      // The server may have been another process when that one was opened.
      const last = await createConnection({ uri: url });
      await last.query(`DROP DATABASE IF EXISTS \`${name}\``);
      await last.end();
    },
  };
}
