/**
 * MySQL and MariaDB, whose log has rows under the names that tables had: what a rule hides under a name stays hidden in rows from
 * before the table, or its column, got that one. The rules change with the names, while no daemon runs.
 */
import { describe, test } from "vitest";
import { expectFormerNamesHidden } from "../../support/mysql/former-names.ts";
import { mysqlFlavours } from "../../support/run/services.ts";

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("rows under the names that tables and columns had", async () => {
    await expectFormerNamesHidden(flavour);
  });
});
