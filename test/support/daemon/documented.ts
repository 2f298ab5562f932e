/** Whether answers of the admin interface are as its OpenAPI document says. */
import { expect } from "vitest";
import * as z from "zod";
import { openApi } from "../../../src/ops/admin/openapi.ts";

interface Operation {
  readonly responses: Readonly<Record<string, { readonly content: Readonly<Record<string, { schema: object }>> }>>;
}

// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the document has this form
const { paths } = openApi("0.0.0") as { paths: Readonly<Record<string, Readonly<Record<string, Operation>>>> };
const known = new Map<string, z.ZodType>();

/** Of a path that the document describes; what only the Unix socket serves is not described. */
export function expectDocumented(method: string, path: string, answer: unknown): void {
  const route = `${method} ${path}`;
  const schema = paths[path]?.[method.toLowerCase()]?.responses["200"]?.content["application/json"]?.schema;
  if (schema === undefined) return;
  const checked = known.get(route) ?? z.fromJSONSchema({ ...closed(schema) });
  known.set(route, checked);
  const { error } = checked.safeParse(answer);
  expect(error === undefined ? "" : `${route}: ${z.prettifyError(error)}`, "as openapi.json says").toBe("");
}

/** The same, without fields that the document does not name. */
function closed(schema: object): object {
  const entries = Object.entries(schema).map(([key, value]) => [key, within(value)]);
  return { ...Object.fromEntries(entries), ...("properties" in schema ? { additionalProperties: false } : {}) };
}

function within(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(within);
  return typeof value === "object" && value !== null ? closed(value) : value;
}
