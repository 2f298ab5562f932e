import { expect, test } from "vitest";
import { lineageText, type TableLineage } from "../../src/cli/status/lineage.ts";

test("a table without columns, as one that never fitted its rule, is named beside what decides", () => {
  const lineage: TableLineage = {
    table: "public.orders",
    columns: [],
    computed: [],
    filtered: false,
    decidedBy: { where: "public.o*" },
  };
  const before: TableLineage = { ...lineage, table: "public.customers", decidedBy: {} };
  const id = { source: "id", target: "id", mask: null, hiddenBy: null, renamedBy: null };
  const lines = lineageText([{ ...before, columns: [id, { ...id, source: "name", target: "name" }] }, lineage]).split(
    "\n",
  );
  expect(lines.find((line) => line.includes("(where)"))).toContain("public.orders");
});
