/** What climbing from changed rows to documents asks of SQLite. */
import { expect, test } from "vitest";
import { Climbing, createLists } from "../../connectors/nest/climbing.ts";
import { planDocument } from "../../connectors/nest/plan.ts";
import { SqliteFile } from "../../connectors/sqlite/file.ts";
import { createSql, layoutOf } from "../../connectors/sqlite/tables/layout.ts";
import { Slices } from "../../connectors/sqlite/write/slices.ts";
import { DEFAULT_FORM } from "../../connectors/warehouse/own-columns.ts";
import type { Document } from "../../src/documents/document.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const orders = tableVersion({ table: "orders", columns: { id: "int4" } });
const items = tableVersion({ table: "items", columns: { id: "int4", order_id: "int4" } });
const DOCUMENT: Document = {
  name: "orders",
  where: null,
  root: {
    table: orders,
    fields: [{ name: "id", column: "id" }],
    relations: [
      {
        name: "items",
        many: true,
        through: null,
        on: [{ above: "id", below: "order_id" }],
        where: null,
        orderBy: [],
        limit: null,
        value: null,
        node: { table: items, fields: [{ name: "id", column: "id" }], relations: [], transform: null },
      },
    ],
    transform: null,
  },
};

test("a step looks at the values alone from which it climbs, not at all that wait", async () => {
  using folder = temporaryFolder();
  const signal = AbortSignal.timeout(60_000);
  const file = await SqliteFile.open(folder.file("nest.sqlite"), signal);
  const form = { form: DEFAULT_FORM, dropsColumns: false };
  const layouts = new Map([orders, items].map((table) => [table.id, layoutOf(table, table.table, form, true)]));
  for (const layout of layouts.values()) file.exec(createSql(layout));
  createLists(file, 1);
  const run = new Set<string>();
  const noting = new Proxy(file, {
    get: (_, name: keyof SqliteFile) => {
      const own = file[name];
      if (typeof own !== "function") return own;
      return (...given: unknown[]): unknown => {
        if (name === "run") run.add(String(given[0]));
        return Reflect.apply(own, file, given);
      };
    },
  });
  const limits = { batchRows: 5, stepRows: 10, stepValues: 2 };
  const climbing = new Climbing(noting, [planDocument(DOCUMENT, 1, layouts, 0)], limits);
  climbing.begin();
  await file.transaction(
    signal,
    () => undefined,
    async () => {
      for (let i = 1; i <= 9; i++) {
        file.run(`INSERT INTO "orders" VALUES (?, 1, '')`, i);
        file.run(`INSERT INTO "items" VALUES (?, ?, 1, '')`, i, i);
      }
      await climbing.list(new Slices(signal));
    },
  );
  const limited = [...run].filter((sql) => sql.includes("n <= "));
  const plans = limited.map((sql) => file.rows(`EXPLAIN QUERY PLAN ${sql}`).map(([, , , detail]) => String(detail)));
  expect(limited.length).toBeGreaterThan(2);
  expect(plans.flat().filter((detail) => /^SCAN (c|_millrace_waiting)/.test(detail))).toEqual([]);
  climbing.end();
  await file.close();
});
