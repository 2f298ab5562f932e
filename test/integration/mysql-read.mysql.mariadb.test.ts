/**
 * Rows read beside the stream.
 * @module-tag heavy
 */
import { firstVersion } from "../support/blocks.ts";
import { expect, test } from "vitest";
import { sourceFactory } from "../../connectors/mysql/source/config.ts";
import type { Chunk, KeyText } from "../../src/core/contracts/row-reads.ts";
import { quietLog } from "../support/quiet-log.ts";
import { freshMysqlDatabase, mysqlFlavours, mysqlUrl } from "../support/services.ts";

const signal = AbortSignal.timeout(100_000);
const row = (i: number): string => `(${i % 10}, 'b${i}', ${i % 70 === 0 ? "'wanted'" : "null"})`;

test.each(mysqlFlavours)(
  "%s: under a condition that no index serves a chunk ends after so many rows",
  async (flavour) => {
    await using database = await freshMysqlDatabase(mysqlUrl(flavour));
    const { name, connection } = database;
    await connection.query("create table t (a int, b varchar(20), note varchar(20), primary key (a, b))");
    await connection.query(`insert into t values ${Array.from({ length: 700 }, (_, i) => row(i)).join(", ")}`);
    const url = new URL(mysqlUrl(flavour));
    url.pathname = `/${name}`;
    const source = await sourceFactory.create(
      { daemon: "d", folder: ".", tables: [`${name}.*`], options: { url: url.href } },
      quietLog,
    );
    try {
      await source.admin.create({ epoch: 1, wantCopy: false, resumeIntent: false }, signal);
      const { tables } = await source.catalog.tables(signal);
      const table = firstVersion(tables[0]!);
      let after: KeyText | null = null;
      let [rowCount, chunkCount] = [0, 0];
      do {
        const chunk: Chunk = await source.rows.readRange(
          table,
          { after, where: "note = 'wanted'", scanRowCountMax: 50 },
          signal,
        );
        rowCount += chunk.block?.count ?? 0;
        chunk.block?.release();
        chunkCount++;
        after = chunk.last;
      } while (after !== null);
      expect(rowCount).toBe(10);
      expect(chunkCount).toBeGreaterThanOrEqual(14);
    } finally {
      await source.close();
    }
  },
);
