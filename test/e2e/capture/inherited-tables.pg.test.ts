/** Parents by inheritance: a table has its own rows, and the tables that inherit from it have theirs. */
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

const PREPARE = `
  create table payment (id int primary key, amount int, note text);
  create table payment_a () inherits (payment);
  create table payment_b (primary key (id)) inherits (payment);
  insert into payment select i, i, 'first' from generate_series(1, 300) i;
  insert into payment_a values (1, -1, 'keyless'), (1, -2, 'keyless');
  insert into payment_b values (2, -2, 'heir'), (700, -7, 'heir');`;

interface Document {
  readonly tables: readonly { readonly table: string; readonly sourceRows: number; readonly sinkRows: number }[];
  readonly besides: readonly { readonly table: string; readonly what: string }[];
}

test("flow, are read again, looked up and compared by their own rows; what SELECT shows besides is named", async () => {
  await using pipeline = await RunningPipeline.start(PREPARE, {
    kinds: ["duckdb", "postgres"],
  });
  const rows = async (sql: string, of: { query: (sql: string) => Promise<{ rows: unknown[] }> }): Promise<unknown[]> =>
    (await of.query(sql)).rows;
  const expectOwn = async (): Promise<void> => {
    await pipeline.settled();
    const columns = "select id, amount, note from";
    expect(await rows(`${columns} public.payment order by id`, pipeline.sinks.target!)).toEqual(
      await rows(`${columns} only payment order by id`, pipeline.source),
    );
    await pipeline.expectEqual(["payment_b"]);
  };
  await expectOwn();
  await pipeline.run(
    "update payment set amount = amount + 1 where id < 10 or id >= 700; delete from only payment where id = 3",
  );
  await pipeline.run("insert into payment values (500, 1, 'own'); insert into payment_b values (500, 2, 'heir')");
  await expectOwn();
  await pipeline.readAgain("public.payment");
  await pipeline.run("truncate only payment_b; insert into payment_b values (1, 3, 'heir')");
  await expectOwn();

  const said = /SELECT also shows .*\(public\.payment_a, not captured; public\.payment_b\)/;
  await eventually(async () => {
    const { hints } = (await pipeline.installation.status()).source;
    expect(hints).toContainEqual(expect.stringMatching(said));
  });
  const check = await pipeline.installation.command("check");
  expect(check.stdout).toMatch(said);
  // Differences that only a key's own row repairs.
  await pipeline.sinks.target!.query(
    "update public.payment set amount = 77 where id = 1; delete from public.payment where id = 2",
  );
  const repaired = await pipeline.installation.command("reconcile", "--repair", "--json");
  const document: Document = JSON.parse(repaired.stdout);
  expect(document.besides).toEqual([{ table: "public.payment", what: expect.stringMatching(said) }]);
  const own = document.tables.filter(({ table }) => table === "public.payment");
  expect(own.map(({ sourceRows }) => sourceRows)).toEqual([300, 300]);
  await expectOwn();
  const again = await pipeline.installation.command("reconcile");
  expect([again.exitCode, again.stdout]).toEqual([0, expect.stringMatching(said)]);
});
