/** How a value lands in a Parquet file, worked out from Postgres' text form alone, as FilesReader spells it. */
import type { Column } from "../../src/core/model/schema.ts";
import { landingOf } from "./json-landing.ts";
import { spelledJson } from "./json-text.ts";

export function parquetLanding({ type }: Pick<Column, "type">, text: string): string {
  switch (type.kind) {
    case "bool":
      return text === "t" ? "true" : "false";
    case "float":
      return text === "-0" ? text : String(type.bits === 32 ? Math.fround(Number(text)) : Number(text));
    case "array":
      return spelledJson(landingOf(type, text));
    default:
      return text;
  }
}
