import * as z from "zod";
import { orderOf } from "../documents/resolve.ts";
import type {
  WantedCondition,
  WantedDocument,
  WantedNode,
  WantedRelation,
  WantedTransform,
} from "../documents/document.ts";
import { duration } from "../core/values/quantity-keys.ts";
import { BUDGET_MS, FunctionFault, functionName } from "../rules/computed/functions.ts";
import { type DeclaredType, declaredType, TYPE_NAMES } from "../rules/computed/results.ts";
import { parseWhere, WhereError } from "../rules/where/syntax.ts";
import type { Problem } from "./errors.ts";

/** The keys of `documents`: objects made of rows of several tables. */

const DOCUMENT_NAME = /^[a-z][a-z0-9_]{0,59}$/;
const TABLE = /^[^.!*?]+\.[^*?]+$/s;
const ROW_COUNT_MAX = 100_000;
/** Of relations in relations. */
const DEPTH_MAX = 16;

const table = z.string().regex(TABLE, { error: "expected schema.table, without wildcards" });
const column = z.string().min(1);
const field = z
  .string()
  .min(1)
  .regex(/^(?!_millrace_)/, { error: "names that begin with _millrace_ are Millrace's own" });
const joins = z
  .record(column, column)
  .refine((on) => Object.keys(on).length > 0, { error: "expected at least one column" });

const value = z.string().describe("The function, as a file and an export of it: ./documents.ts#order.");

const transform = z
  .union(
    [
      value,
      z.strictObject({
        value,
        fields: z
          .record(field, z.string())
          .default({})
          .describe(
            `Fields that it adds, or gives another type, each with its type: ${TYPE_NAMES.join(", ")}; decimal(12,2); text[].`,
          ),
        budget: duration(1, 60_000)
          .optional()
          .describe("How long a call may take on average before `status` names it. Default: 1ms."),
      }),
    ],
    { error: "expected a function such as ./documents.ts#order, or value and fields" },
  )
  .optional()
  .describe(
    "A function that each object goes through, and that may leave it out: `./documents.ts#order`, `(order) => order | null`; or with `value` and `fields`.",
  );

const nodeKeys = {
  from: table.describe("The table whose rows are these objects: schema.table."),
  columns: z
    .array(column, { error: "expected a list of columns, such as [id, name]" })
    .min(1)
    .refine((names) => new Set(names).size === names.length, { error: "a column is listed twice" })
    .optional()
    .describe("The columns that become fields. Default: all."),
  rename: z.record(column, field).default({}).describe("Other names of fields, by column."),
  transform,
};
const where = z
  .string()
  .min(1)
  .optional()
  .describe("Only rows that match, in the language of filters (`millrace explain MR1020`). Default: all.");

const relationDefinition = z
  .strictObject({
    ...nodeKeys,
    many: z
      .boolean()
      .default(false)
      .describe("true: an array of all rows; false: an object, of the first row by key, or null."),
    through: z
      .union(
        [
          table,
          z.strictObject({
            from: table.describe("The table in between."),
            on: joins.optional().describe("What joins it to the table above, as for a relation."),
          }),
        ],
        { error: "expected schema.table, or from and on" },
      )
      .optional()
      .describe("A table in between, each row of which joins a row above with a row here; or with `from` and `on`."),
    on: joins
      .optional()
      .describe(
        "What joins the rows, a column of `from` to a column above (or in between): `{ order_id: id }`. Default: the foreign key between the two tables, if there is one only.",
      ),
    where,
    orderBy: z
      .array(z.string().regex(/^-?[^-]/s, { error: "expected columns, with - for descending order" }))
      .min(1)
      .default([])
      .describe(
        "The order of an array: columns, with `-` descending; then by key. Texts by their bytes, null where the source has it.",
      ),
    limit: z.int().min(1).max(ROW_COUNT_MAX).optional().describe("At most so many rows, the first ones. Default: all."),
    value: column.optional().describe("A column whose values stand in place of objects."),
    get with() {
      return relationsDefinition;
    },
  })
  .refine((one) => one.value === undefined || (one.columns === undefined && Object.keys(one.with ?? {}).length === 0), {
    error: "`value` takes the place of `columns` and `with`",
  })
  .refine((one) => one.value === undefined || one.transform === undefined, {
    error: "`transform` is of objects, and `value` makes none",
  })
  .refine((one) => one.many || (one.limit === undefined && one.through === undefined) || one.orderBy.length > 0, {
    error: "without `many` there is one row: `orderBy` says which",
  });

const relationsDefinition: z.ZodType<Readonly<Record<string, RelationInput>>> = z
  .record(
    field,
    z.lazy(() => relationDefinition),
  )
  .default({})
  .describe("Rows of other tables that belong to it; each key is a field.");

const documentDefinition = z.strictObject({
  ...nodeKeys,
  where,
  with: relationsDefinition,
});

interface NodeInput {
  readonly from: string;
  readonly columns?: readonly string[] | undefined;
  readonly rename: Readonly<Record<string, string>>;
  readonly where?: string | undefined;
  readonly transform?: z.output<typeof transform>;
  readonly with: Readonly<Record<string, RelationInput>>;
}

export interface RelationInput extends NodeInput {
  readonly many: boolean;
  readonly through?:
    | string
    | { readonly from: string; readonly on?: Readonly<Record<string, string>> | undefined }
    | undefined;
  readonly on?: Readonly<Record<string, string>> | undefined;
  readonly orderBy: readonly string[];
  readonly limit?: number | undefined;
  readonly value?: string | undefined;
}

export const documentsDefinition = z.record(
  z.string().regex(DOCUMENT_NAME, { error: "expected a lower-case letter, then at most 59 of a-z, 0-9 and _" }),
  documentDefinition,
);

export interface Surroundings {
  /** Paths of functions are relative to it. */
  readonly folder: string;
  /** Formats a key's path for the start of a message. */
  readonly place: (path: readonly string[]) => string;
  readonly problem: (code: Problem["code"], path: readonly string[], message: string) => void;
}

export function documentsOf(
  given: Readonly<Record<string, NodeInput>>,
  surroundings: Surroundings,
): readonly WantedDocument[] {
  return Object.entries(given).map(([name, document]) => {
    const path = ["documents", name];
    const reading = new Reading(surroundings);
    return { name, where: reading.condition(path, document.where), root: reading.node(path, document, 0) };
  });
}

class Reading {
  readonly #surroundings: Surroundings;

  constructor(surroundings: Surroundings) {
    this.#surroundings = surroundings;
  }

  node(path: readonly string[], given: NodeInput, depth: number): WantedNode {
    const { from, columns, rename, with: relations } = given;
    const { place, problem } = this.#surroundings;
    if (depth > DEPTH_MAX) problem("MR1005", path, `relations go at most ${DEPTH_MAX} levels deep`);
    const below =
      depth > DEPTH_MAX
        ? []
        : Object.entries(relations).map(([name, one]) => this.#relation([...path, "with", name], name, one, depth + 1));
    const made = this.#transform([...path, "transform"], given.transform);
    return { place: place(path), from, columns: columns ?? null, rename, relations: below, transform: made };
  }

  /** Null: there is none, or something is wrong with it. */
  #transform(path: readonly string[], given: NodeInput["transform"]): WantedTransform | null {
    if (given === undefined) return null;
    const { place, problem, folder } = this.#surroundings;
    const { value: text, fields, budget } = typeof given === "string" ? { value: given, fields: {} } : given;
    const types = Object.entries(fields).flatMap(([name, type]): readonly (readonly [string, DeclaredType])[] => {
      const declared = declaredType(type);
      if (typeof declared !== "string") return [[name, declared]];
      problem("MR1005", [...path, "fields", name], declared);
      return [];
    });
    const at = typeof given === "string" ? path : [...path, "value"];
    try {
      const named = functionName(text, folder);
      return { place: place(at), function: named, fields: Object.fromEntries(types), budgetMs: budget ?? BUDGET_MS };
    } catch (error) {
      if (!(error instanceof FunctionFault)) throw error;
      problem("MR1005", at, `${error.message}; ${error.fix}`);
      return null;
    }
  }

  #relation(path: readonly string[], name: string, given: RelationInput, depth: number): WantedRelation {
    const { many, through, on, orderBy, limit, value } = given;
    const between = typeof through === "string" ? { from: through } : through;
    return {
      ...this.node(path, given, depth),
      name,
      many,
      through:
        between === undefined
          ? null
          : { place: this.#surroundings.place([...path, "through"]), from: between.from, on: between.on ?? null },
      on: on ?? null,
      where: this.condition(path, given.where),
      orderBy: orderBy.map(orderOf),
      limit: limit ?? null,
      value: value ?? null,
    };
  }

  condition(path: readonly string[], text: string | undefined): WantedCondition | null {
    if (text === undefined) return null;
    const at = [...path, "where"];
    const { place, problem } = this.#surroundings;
    try {
      return { place: place(at), text, expression: parseWhere(text) };
    } catch (error) {
      if (!(error instanceof WhereError)) throw error;
      problem("MR1020", at, `at character ${error.at + 1}: ${error.message}`);
      return null;
    }
  }
}
