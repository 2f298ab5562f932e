/**
 * The recorded stretch of a log against a live server: the same work gives the same rows. After a wanted change:
 * MILLRACE_GOLDEN=write npx vitest run test/conformance/mysql-rows (against servers that do nothing else meanwhile)
 */
import { expect, test } from "vitest";
import { readRecording, record, writeRecording } from "../support/mysql/mysql-recording.ts";
import { freshMysqlDatabase, mysqlFlavours, mysqlUrl, ownMysql } from "../support/run/services.ts";

test.each(mysqlFlavours)("%s still writes its log as when the golden one was recorded", async (flavour) => {
  // MariaDB compresses events for all of a server or for none of it.
  await using own = flavour === "mariadb" ? await ownMysql(flavour) : undefined;
  const url = own?.url ?? mysqlUrl(flavour);
  await using database = await freshMysqlDatabase(url);
  const found = await record(flavour, url, database);
  if (process.env["MILLRACE_GOLDEN"] === "write") writeRecording(flavour, found);
  const golden = readRecording(flavour);
  expect(found.columns).toEqual(golden.columns);
  expect(found.rows).toEqual(golden.rows);
});
