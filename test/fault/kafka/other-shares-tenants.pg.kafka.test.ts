/**
 * Tables that tenants share go over to another number of shares: each tenant is the share's that has its table from then on.
 *
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { shareOf } from "../../../src/core/sharing/share.ts";
import { SharedTables } from "../../support/kafka/shared-tables.ts";
import { eventually } from "../../support/run/waiting.ts";

const TENANTS = ["acme", "zed"] as const;
const TABLES = ["orders", "items", "parts"] as const;
/** Of the tables, in the order of `TABLES`: one moves between shares that go on, one from a share that ends, one stays. */
const SHARES: Readonly<Record<number, readonly number[]>> = { 2: [2, 1, 2], 3: [1, 3, 2] };

const tenant = (name: string): string =>
  `create schema tenant_${name}; ${TABLES.map(
    (table) =>
      `create table tenant_${name}.${table} (id int primary key, note text);
       insert into tenant_${name}.${table} values (1, 'first')`,
  ).join("; ")}`;

test("tenants in shared tables, from three shares to two", async () => {
  for (const count of [2, 3])
    expect(TABLES.map((table) => shareOf({ schema: "shared", table }, { count, by: "id" }))).toEqual(SHARES[count]);
  await using shared = await SharedTables.start(TENANTS.map(tenant).join("; "), {
    kinds: ["postgres"],
    shares: 3,
    apply: (config) => ({ ...config, tables: { "tenant_*.*": { into: "shared.$2", add: { tenant: "$1" } } } }),
  });
  const { installation, sinks } = shared.through.applying;
  const expectNotes = async (...notes: readonly string[]): Promise<void> => {
    const wanted = TENANTS.flatMap((name) => notes.map((note) => `${name} ${note}`)).toSorted();
    for (const table of TABLES)
      await eventually(
        async () => {
          const { rows } = await sinks.target!.query<{ row: string }>(
            `select tenant || ' ' || note as row from shared.${table}`,
          );
          expect(rows.map(({ row }) => row).toSorted(), shared.said()).toEqual(wanted);
        },
        { withinMs: 60_000 },
      );
  };
  await shared.spread(3);
  await expectNotes("first");
  for (const one of shared.processes) if (!one.exited) await one.stop();
  const count = 2;
  installation.text = installation.text.replace(/shares: \d+/, `shares: ${count}`);
  shared.count = count;
  const owned = async () => (await sinks.target!.query("select scope, owner from _millrace.scopes")).rows;
  expect(await owned()).toHaveLength(TENANTS.length * TABLES.length);
  await shared.command(0, "recover", "--shares", "--yes");
  // In whatever order the shares start, none finds that another one has what is its own now.
  expect(await owned()).toEqual([]);
  shared.add();
  await shared.spread(count);
  for (const name of TENANTS)
    for (const table of TABLES) await shared.source.query(`insert into tenant_${name}.${table} values (2, 'second')`);
  await expectNotes("first", "second");
  expect(shared.said()).not.toContain("MR3121");
});
