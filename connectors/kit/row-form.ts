/** Options of all warehouses: what happens to deleted rows, and whether every change is kept. */
import * as z from "zod";
import type { SinkContext } from "../../src/core/contracts/connector.ts";
import type { TargetForm } from "../warehouse/own-columns.ts";
import type { WarehouseSinkOptions } from "../warehouse/targets.ts";

export const deletes = z
  .enum(["hard", "soft"], { error: 'expected "hard" or "soft"' })
  .default("hard")
  .describe(
    "What happens to a row that was deleted at the source. hard: it is deleted; soft: it stays, and _millrace_deleted becomes true.",
  );

export const mode = z
  .enum(["mirror", "history"], { error: 'expected "mirror" or "history"' })
  .default("mirror")
  .describe("mirror: a row for a row of the source. history: a row for every change, appended in commit order.");

/** Both, as choices of a new configuration. */
export const formChoices: readonly string[] = [
  "deletes: soft       # rows deleted at the source stay, with _millrace_deleted true. Default: hard",
  "mode: history       # a row for every change. Default, mirror: a row for a row of the source",
];

/** Of a target that has schemas: a name that it keeps for itself would suspend every table. */
export function schemaFor(
  target: string,
  isReserved: (name: string) => boolean,
  word = "schema",
  others = "the source's schemas",
) {
  return z
    .string()
    .min(1)
    .refine((name) => !isReserved(name), {
      error: ({ input }) => `${word} ${JSON.stringify(input)} belongs to ${target} or to Millrace: choose another name`,
    })
    .optional()
    .describe(
      `Puts all tables into this ${word}; two tables with the same name there are refused. Default: ${others}.`,
    );
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
