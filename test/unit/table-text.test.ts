import Table from "cli-table3";
import { expect, test } from "vitest";
import { tableText } from "../../src/cli/table.ts";

test("a table of many rows reads as if it were laid out at once", () => {
  const cell = (row: number): string => ["", "日本語", "two\nlines", "é", "long ".repeat(row % 9)][row % 5]!;
  const rows = Array.from({ length: 330 }, (_, i) => [`public.t${i}`, i, cell(i)]);
  for (const head of [["table", "rows", "a longer head than the cells"], []]) {
    const whole = new Table({ head, style: { head: [], border: [], compact: true } });
    whole.push(...rows);
    expect(tableText(head, rows)).toBe(whole.toString());
    expect(tableText(head, rows.slice(0, 201)).split("\n")).toHaveLength(
      rows.slice(0, 201).flatMap((row) => String(row[2]).split("\n")).length + (head.length > 0 ? 4 : 2),
    );
  }
});
