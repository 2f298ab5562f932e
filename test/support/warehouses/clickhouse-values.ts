/** What ClickHouse shows of a value, and how a value lands there by the README's table of types. */
import type { Column } from "../../../src/core/model/schema.ts";
import { expectedJson, normalJson } from "../../../src/core/targets/expected-json.ts";

export type Row = readonly (string | null)[];

/** Runs a statement; the rows of its answer, each value as text. */
export async function askClickhouse(url: string, sql: string): Promise<readonly Row[]> {
  const { origin, username, password } = new URL(url);
  const settings = "default_format=JSONCompact&output_format_json_quote_64bit_integers=1&mutations_sync=2";
  const headers = username === "" ? {} : { "x-clickhouse-user": username, "x-clickhouse-key": password };
  const answer = await fetch(`${origin}/?${settings}`, { method: "POST", body: sql, headers });
  const text = await answer.text();
  if (!answer.ok) throw new Error(text);
  if (text === "") return [];
  const { data }: { data: unknown[][] } = JSON.parse(text);
  return data.map((row) =>
    row.map((value) => (value === null || typeof value === "string" ? value : JSON.stringify(value))),
  );
}

/** Quoted, and joined by dots. */
export function nameIn(...parts: readonly string[]): string {
  return parts.map((part) => `\`${part.replaceAll("\\", "\\\\").replaceAll("`", "\\`")}\``).join(".");
}

export function readable({ name, type }: Pick<Column, "name" | "type">): string {
  // An empty one stands for null.
  if (type.kind === "vector") return `nullIf(toString(${nameIn(name)}), '[]')`;
  return type.kind === "bytes" ? `concat('\\\\x', lower(hex(${nameIn(name)})))` : `toString(${nameIn(name)})`;
}

/** As `landed`, from what ClickHouse prints. */
export function spelt({ type, native }: Pick<Column, "type" | "native">, isKey: boolean, text: string): string {
  if (type.kind === "bool") return text === "true" ? "t" : "f";
  if (type.kind === "float") return landedFloat(type.bits, text.replace("inf", "Infinity"));
  if (type.kind === "vector" && !isKey) return landedVector(text);
  if (isArray({ type, native }) && !isKey) return normalJson(text);
  return text;
}

/** How a value lands, worked out from Postgres' text form and the README's table of types. */
export function landed({ type, native }: Pick<Column, "type" | "native">, text: string, isKey = false): string {
  if (type.kind === "float") return landedFloat(type.bits, isKey && text === "-0" ? "0" : text);
  if (type.kind === "vector" && !isKey) return landedVector(text);
  if (isArray({ type, native }) && isKey) return text;
  if (isArray({ type, native })) return text.startsWith("[") ? text : expectedJson(type, text)!;
  if (type.kind === "decimal" && type.precision !== null && text.includes(".")) return text.replace(/\.?0+$/, "");
  if (type.kind === "timestamp" && /^(19|2[0-2])\d\d-[^B]*$/.test(text)) {
    const [clock, behind = ""] = text.replace(/\+00$/, "").split(".");
    return `${clock}.${behind.padEnd(6, "0")}`;
  }
  return text;
}

function landedVector(text: string): string {
  if (text.startsWith("{")) return text;
  const numbers = text.slice(1, -1).split(",");
  return numbers.map((number) => landedFloat(32, number)).join();
}

function landedFloat(bits: 32 | 64, text: string): string {
  const value = bits === 32 ? Math.fround(Number(text)) : Number(text);
  return Object.is(value, -0) ? "-0" : String(value);
}

function isArray({ type, native }: Pick<Column, "type" | "native">): boolean {
  return type.kind === "array" && native !== "box[]";
}
