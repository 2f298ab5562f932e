import Table from "cli-table3";

type Cell = string | number;

/** The library looks at all rows before each row, so that many rows are laid out in parts. */
const ROWS_TOGETHER = 25;

/** Rows for people. `none`: in place of a table without rows. */
export function tableText(head: readonly string[], rows: Iterable<readonly Cell[]>, none?: string): string {
  const all = [...rows];
  if (all.length === 0 && none !== undefined) return none;
  if (all.length <= ROWS_TOGETHER) return laidOut(head, all);
  const parts = Array.from({ length: Math.ceil(all.length / ROWS_TOGETHER) }, (_, i) =>
    all.slice(i * ROWS_TOGETHER, (i + 1) * ROWS_TOGETHER),
  );
  const widths = parts
    .map((part) => widthsOf(laidOut(head, part)))
    .reduce((widest, own) => own.map((width, i) => Math.max(width, widest[i] ?? 0)));
  const texts = parts.map((part, i) => laidOut(i === 0 ? head : [], part, widths).split("\n"));
  const inside = texts.flatMap((lines, i) => lines.slice(i === 0 ? 0 : 1, -1));
  return [...inside, texts.at(-1)!.at(-1)!].join("\n");
}

function laidOut(
  head: readonly string[],
  rows: readonly (readonly Cell[])[],
  colWidths: readonly number[] = [],
): string {
  const style = { head: [], border: [], compact: true };
  const table = new Table({ head: [...head], style, colWidths: [...colWidths] });
  for (const row of rows) table.push([...row]);
  return table.toString();
}

/** By its upper border. */
function widthsOf(text: string): readonly number[] {
  return text
    .slice(1, text.indexOf("\n") - 1)
    .split("┬")
    .map(({ length }) => length);
}
