/** Values as literals of a statement, to look for rows by their keys. */
import { quoteLiteral } from "../names.ts";
import type { ClickhouseType } from "../types.ts";

/** `text`: the value as the source prints it. A value that does not fit the type gives a literal that no row has, or an error. */
export function literalOf({ name, form }: ClickhouseType, text: string): string {
  switch (form.kind) {
    case "bool":
      return text === "t" ? "true" : "false";
    case "bytes":
      return `unhex('${text.slice(2)}')`;
    case "date":
      return `toDate32(${quoteLiteral(text)})`;
    case "timestamp":
      return `toDateTime64(${quoteLiteral(text.replace(/\+00$/, ""))}, 6, 'UTC')`;
    case "uuid":
      return `toUUID(${quoteLiteral(text)})`;
    case "float":
      // As keys are written.
      return `CAST(${quoteLiteral(text === "-0" ? "0" : text)} AS ${name})`;
    case "int":
    case "decimal":
      return `CAST(${quoteLiteral(text)} AS ${name})`;
    case "text":
    case "json":
    case "array":
    case "vector":
      return quoteLiteral(text);
    default:
      return form satisfies never;
  }
}

/** One of several keys. */
export function tupleOf(literals: readonly string[]): string {
  return literals.length === 1 ? literals[0]! : `(${literals.join(", ")})`;
}
