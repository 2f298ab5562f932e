/** How a value lands in a Parquet file, worked out from Postgres' text form alone, as FilesReader spells it. */
import type { Column } from "../../../src/core/model/schema.ts";
import { landingOf } from "../model/json-landing.ts";
import { spelledJson } from "../model/json-text.ts";

export function parquetLanding({ type }: Pick<Column, "type">, text: string): string {
  if (type.kind === "bool") return text === "t" ? "true" : "false";
  if (type.kind === "array") return spelledJson(landingOf(type, text));
  if (type.kind !== "float" || text === "-0") return text;
  return String(type.bits === 32 ? Math.fround(Number(text)) : Number(text));
}
