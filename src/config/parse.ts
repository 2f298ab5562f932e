import type * as z from "zod";

/**
 * zod's safeParse for input that may come from variables. These are always text, so `${BATCH_ROWS}` is converted where
 * a number is expected.
 */
export function parse<D extends z.ZodType>(definition: D, input: unknown): z.ZodSafeParseResult<z.output<D>> {
  const first = definition.safeParse(input);
  if (first.success || !first.error.issues.some((issue) => convertAt(input, issue))) return first;
  return definition.safeParse(input);
}

/** Converts in place: the input belongs to the loader. */
function convertAt(input: unknown, issue: z.core.$ZodIssue): boolean {
  const last = issue.path.at(-1);
  if (issue.code !== "invalid_type" || last === undefined) return false;
  let holder: unknown = input;
  for (const key of issue.path.slice(0, -1)) holder = propertyOf(holder, key);
  const text = propertyOf(holder, last);
  const value = typeof text === "string" ? converted(text, issue.expected) : undefined;
  return value !== undefined && typeof holder === "object" && holder !== null && Reflect.set(holder, last, value);
}

function propertyOf(holder: unknown, key: PropertyKey): unknown {
  if (typeof holder !== "object" || holder === null) return undefined;
  return Object.getOwnPropertyDescriptor(holder, key)?.value;
}

function converted(text: string, expected: string): number | boolean | undefined {
  if (expected === "boolean" && (text === "true" || text === "false")) return text === "true";
  if ((expected === "number" || expected === "int") && /^-?\d{1,15}(\.\d{1,9})?$/.test(text)) return Number(text);
  return undefined;
}
