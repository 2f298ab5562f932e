/** Options of all warehouses: what happens to deleted rows, and whether every change is kept. */
import * as z from "zod";
import type { IdleKey, SinkContext } from "../../src/core/contracts/connector.ts";
import type { TargetForm } from "../warehouse/own-columns.ts";
import type { WarehouseSinkOptions } from "../warehouse/targets.ts";

const deletes = z
  .enum(["hard", "soft"], { error: 'expected "hard" or "soft"' })
  .default("hard")
  .describe(
    "What happens to a row that was deleted at the source. hard: it is deleted; soft: it stays, and _millrace_deleted becomes true.",
  );

const mode = z
  .enum(["mirror", "history"], { error: 'expected "mirror" or "history"' })
  .default("mirror")
  .describe("mirror: a row for a row of the source. history: a row for every change, appended in commit order.");

/** Both, as choices of a new configuration. */
export const formChoices: readonly string[] = [
  "deletes: soft       # rows deleted at the source stay, with _millrace_deleted true. Default: hard",
  "mode: history       # a row for every change. Default, mirror: a row for a row of the source",
];

/** Keys of every warehouse. A schema that the target keeps for itself would suspend every table. */
export function warehouseKeys(
  target: string,
  isReserved: (name: string) => boolean,
  word = "schema",
  others = "the source's schemas",
) {
  const schema = z
    .string()
    .min(1)
    .refine((name) => !isReserved(name), {
      error: ({ input }) => `${word} ${JSON.stringify(input)} belongs to ${target} or to Millrace: choose another name`,
    })
    .optional()
    .describe(
      `Puts all tables into this ${word}; two tables with the same name there are refused. Default: ${others}.`,
    );
  return { schema, deletes, mode };
}

export function idleDeletes(options: { readonly deletes: string; readonly mode: string }): IdleKey | undefined {
  if (options.deletes !== "soft" || options.mode !== "history") return undefined;
  return ["deletes", "has no use with `mode: history`, which keeps the row of each delete"];
}

/** What every warehouse's sink is told of its configuration. */
export function warehouseOptions({
  name,
  daemon,
  options: { schema, deletes: kept, mode: form },
  dropsColumns,
  adopts,
}: SinkContext<{
  readonly schema?: string | undefined;
  readonly deletes: TargetForm["deletes"];
  readonly mode: TargetForm["mode"];
}>): WarehouseSinkOptions & { readonly owner: string; readonly form: TargetForm } {
  return { name, owner: `${daemon}/${name}`, schema, form: { deletes: kept, mode: form }, dropsColumns, adopts };
}
