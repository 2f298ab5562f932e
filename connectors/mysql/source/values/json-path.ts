/** Paths into JSON documents as the log has them: `$`, then members (`.name`, `."any name"`) and items (`[3]`, `[last-1]`). */
import { damaged } from "../../errors.ts";

export type JsonLeg =
  | { readonly kind: "member"; readonly name: Buffer }
  | { readonly kind: "item"; readonly index: number; readonly fromEnd: boolean };

const LEG =
  /\s*(?:\.\s*(?:(?<quoted>"(?:[^"\\]|\\.)*")|(?<plain>[^\s."[\]*]+))|\[\s*(?:(?<index>\d+)|last(?:\s*-\s*(?<back>\d+))?)\s*\])/gsuy;

export function parseJsonPath(path: string): readonly JsonLeg[] {
  const legs: JsonLeg[] = [];
  LEG.lastIndex = 1;
  let at = 1;
  for (let match = LEG.exec(path); match !== null; match = LEG.exec(path)) {
    const { quoted, plain, index, back } = match.groups ?? {};
    const name = quoted === undefined ? plain : unquoted(quoted);
    if (name !== undefined) legs.push({ kind: "member", name: Buffer.from(name, "utf8") });
    else legs.push({ kind: "item", index: Number(index ?? back ?? 0), fromEnd: index === undefined });
    at = LEG.lastIndex;
  }
  if (path[0] !== "$" || at !== path.length) throw damaged("a partial update of JSON has a path that can't be read");
  return legs;
}

function unquoted(text: string): string {
  const value: unknown = JSON.parse(text);
  return typeof value === "string" ? value : "";
}
