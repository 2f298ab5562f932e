/**
 * @module-tag long
 *
 * From MySQL and MariaDB into files and into a lake: every type with its edge values.
 */
import { describe, test } from "vitest";
import { everyTypeLands } from "../../support/mysql/mysql-matrix.ts";
import { mysqlFlavours } from "../../support/run/services.ts";

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("every type lands exactly, or as the tables of types say: copied, and from the log", async () => {
    await everyTypeLands(flavour, ["files", "ducklake"]);
  });
});
