/**
 * How a value lands in JSON, worked out from the source's text form by the documentation alone (docs/envelope.md, the
 * connectors' READMEs; array literals: "Array Input and Output Syntax" of Postgres' manual). It shares nothing with the
 * product's own judge (core/targets/expected-json), so that each can find the other's faults.
 */
import type { ColumnType } from "../../../src/core/model/types.ts";
import { Digits, type Json, readJson, spelledJson } from "./json-text.ts";

/** The JSON of a cell whose text form is `text`, in the one spelling of `spelledJson`. */
export function jsonLanding(type: ColumnType, text: string): string {
  return spelledJson(landingOf(type, text));
}

export function landingOf(type: ColumnType, text: string): Json {
  switch (type.kind) {
    case "bool":
      return text === "t";
    case "int":
      return new Digits(text);
    case "float":
      // The three that JSON has no digits for.
      return ["NaN", "Infinity", "-Infinity"].includes(text) ? text : new Digits(text);
    case "json":
      return readJson(text);
    case "bytes":
      return Buffer.from(text.replace("\\x", ""), "hex").toString("base64");
    case "date":
      return text.endsWith("infinity") ? text : dayOf(text);
    case "time":
      return toMicroseconds(text);
    case "timestamp":
      return text.endsWith("infinity") ? text : momentOf(text, type.zone);
    case "array":
      return arrayOf(type.of, text);
    case "vector":
      return vectorOf(text);
    case "decimal":
    case "text":
    case "uuid":
    case "enum":
    case "opaque":
      return text;
    default:
      return type satisfies never;
  }
}

/** pgvector's `[1,2]`, and `{1:0.5,4:-2}/5`, which lists the numbers that are not zero. */
function vectorOf(text: string): Json {
  if (text.startsWith("[")) return readJson(text);
  const [listed = ""] = text.slice(1).split("}");
  const pairs = listed === "" ? [] : listed.split(",").map((pair) => pair.split(":"));
  return readJson(`{${pairs.map(([index, number]) => `"${index}":${number}`).join(",")}}`);
}

/** ISO 8601: there is a year 0, which is 1 BC; a year that four digits can't hold has a sign and six of them or more. */
function dayOf(text: string): string {
  const isBefore = text.endsWith(" BC");
  const [year = "", month = "", day = ""] = text.replace(" BC", "").split("-");
  const count = isBefore ? 1n - BigInt(year) : BigInt(year);
  if (count >= 0n && count < 10_000n) return [count.toString().padStart(4, "0"), month, day].join("-");
  const digits = (count < 0n ? -count : count).toString().padStart(6, "0");
  return [(count < 0n ? "-" : "+") + digits, month, day].join("-");
}

function momentOf(text: string, hasZone: boolean): string {
  const [day = "", clock = "", ...era] = text.split(" ");
  const local = hasZone ? clock.replace("+00", "") : clock;
  return `${dayOf([day, ...era].join(" "))}T${toMicroseconds(local)}${hasZone ? "Z" : ""}`;
}

function toMicroseconds(clock: string): string {
  return clock.includes(".") ? clock.padEnd(clock.indexOf(".") + ".123456".length, "0") : `${clock}.000000`;
}

/** Read letter by letter; bounds in front ("[0:1]={…}") are not kept. */
function arrayOf(of: ColumnType, text: string): Json {
  const open: Json[][] = [];
  let whole: Json = null;
  let element = "";
  let isQuoted = false;
  let isInside = false;
  const end = (): void => {
    if (element !== "" || isQuoted) open.at(-1)!.push(!isQuoted && element === "NULL" ? null : landingOf(of, element));
    element = "";
    isQuoted = false;
  };
  for (let at = text.startsWith("[") ? text.indexOf("=") + 1 : 0; at < text.length; at++) {
    const letter = text[at]!;
    if (letter === "\\") element += text[++at];
    else if (letter === '"') {
      isInside = !isInside;
      isQuoted = true;
    } else if (isInside) element += letter;
    else if (letter === "{") {
      const inner: Json[] = [];
      if (open.length === 0) whole = inner;
      open.at(-1)?.push(inner);
      open.push(inner);
    } else if (letter === "}") {
      end();
      open.pop();
    } else if (letter === ",") end();
    else element += letter;
  }
  return whole;
}
