/**
 * The demo from MySQL and MariaDB, with little data, on the servers of this test run.
 * @module-tag heavy
 */
import { describe, expect, test } from "vitest";
import { startDemo } from "../../support/daemon/demo-process.ts";
import { freshMysqlDatabase, mysqlFlavours, mysqlUrl } from "../../support/run/services.ts";

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("every table in every sink is equal after a SIGKILL, and its database is gone", async () => {
    const server = { [`MILLRACE_TEST_${flavour.toUpperCase()}_URL`]: mysqlUrl(flavour) };
    const demo = startDemo(["--source", flavour, "--seconds", "6", "--rows", "2000"], server);
    const exitCode = await demo.exitCode;
    expect({ exitCode, said: exitCode === 0 ? "" : demo.said() }).toEqual({ exitCode: 0, said: "" });
    expect(demo.said()).toMatch(/kill -9 \d+/);
    expect(demo.said()).toMatch(/32 of 32 equal, after one SIGKILL/);
    await using beside = await freshMysqlDatabase(mysqlUrl(flavour));
    expect(await beside.texts("show databases like 'shop\\_%'")).toEqual([]);
  });
});
