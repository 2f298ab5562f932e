/**
 * Partial updates of JSON (`binlog_row_value_options=PARTIAL_JSON`): the log has the old document and the changes. They are
 * rare, so the document is simply parsed and printed again, with the changes.
 */
import { ByteWriter } from "../../../../src/core/bytes.ts";
import { damaged } from "../errors.ts";
import {
  writeQuoted,
  isInline,
  LARGE_ARRAY,
  LARGE_OBJECT,
  need,
  SMALL_ARRAY,
  SMALL_OBJECT,
  writeValue,
} from "./json-text.ts";
import { Cursor, readUint16, readUint32 } from "../wire/bytes.ts";

type JsonNode =
  | { readonly kind: "object"; members: { readonly key: Buffer; value: JsonNode }[] }
  | { readonly kind: "array"; items: JsonNode[] }
  | { readonly kind: "scalar"; readonly text: Buffer };

const REPLACE = 0;
const INSERT = 1;
const REMOVE = 2;
const NULL_NODE: JsonNode = { kind: "scalar", text: Buffer.from("null") };

/** Writes the text of the document in `document` (binary form) after the changes in `diffs`. */
export function writeChangedJson(out: ByteWriter, document: Uint8Array, diffs: Uint8Array): void {
  let root = readDocument(document);
  const cursor = new Cursor(diffs, 0, diffs.length);
  try {
    while (!cursor.isAtEnd) {
      const operation = cursor.byte();
      const path = parseJsonPath(Buffer.from(cursor.span(cursor.packed())).toString("utf8"));
      const value = operation === REMOVE ? NULL_NODE : readDocument(cursor.span(cursor.packed()));
      root = change(root, path, operation, value);
    }
  } catch (error) {
    if (error instanceof RangeError) throw damaged("a partial update of JSON is cut short", error);
    throw error;
  }
  print(out, root);
}

function change(root: JsonNode, path: readonly JsonLeg[], operation: number, value: JsonNode): JsonNode {
  const last = path.at(-1);
  if (last === undefined) {
    if (operation !== REPLACE) throw damaged("a partial update of JSON inserts or removes the whole document");
    return value;
  }
  let parent = root;
  for (const leg of path.slice(0, -1)) parent = step(parent, leg);
  if (parent.kind === "object" && last.kind === "member") changeMember(parent, last.name, operation, value);
  else if (parent.kind === "array" && last.kind === "item") changeItem(parent, last, operation, value);
  else throw damaged("a partial update of JSON goes where the document has nothing");
  return root;
}

function changeMember(
  parent: Extract<JsonNode, { kind: "object" }>,
  name: Buffer,
  operation: number,
  value: JsonNode,
): void {
  const at = parent.members.findIndex(({ key }) => key.equals(name));
  const found = parent.members[at];
  if (operation === INSERT) {
    if (found !== undefined) throw damaged("a partial update of JSON inserts a member that is there");
    parent.members.push({ key: name, value });
    // The server's order of keys: by length, then by bytes.
    parent.members.sort((a, b) => a.key.length - b.key.length || Buffer.compare(a.key, b.key));
  } else if (found === undefined) {
    throw damaged("a partial update of JSON changes a member that is not there");
  } else if (operation === REMOVE) {
    parent.members.splice(at, 1);
  } else {
    found.value = value;
  }
}

function changeItem(
  parent: Extract<JsonNode, { kind: "array" }>,
  leg: Extract<JsonLeg, { kind: "item" }>,
  operation: number,
  value: JsonNode,
): void {
  const { items } = parent;
  const at = leg.fromEnd ? items.length - 1 - leg.index : leg.index;
  if (operation === INSERT) items.splice(Math.max(0, Math.min(at, items.length)), 0, value);
  else if (items[at] === undefined) throw damaged("a partial update of JSON changes an item that is not there");
  else if (operation === REMOVE) items.splice(at, 1);
  else items[at] = value;
}

function step(node: JsonNode, leg: JsonLeg): JsonNode {
  let next: JsonNode | undefined;
  if (node.kind === "object" && leg.kind === "member") {
    next = node.members.find(({ key }) => key.equals(leg.name))?.value;
  } else if (leg.kind === "item" && node.kind === "array") {
    next = node.items[leg.fromEnd ? node.items.length - 1 - leg.index : leg.index];
  } else if (leg.kind === "item" && leg.index === 0) {
    // For a path, any value except an array counts as an array with one item.
    next = node;
  }
  if (next === undefined) throw damaged("a partial update of JSON goes where the document has nothing");
  return next;
}

function readDocument(bytes: Uint8Array): JsonNode {
  return bytes.length === 0 ? NULL_NODE : readNode(bytes, bytes[0]!, 1);
}

function readNode(bytes: Uint8Array, type: number, at: number): JsonNode {
  if (type > LARGE_ARRAY) {
    const out = new ByteWriter(64);
    writeValue(out, bytes, type, at, bytes.length, 0);
    return { kind: "scalar", text: Buffer.from(out.view()) };
  }
  const isLarge = type === LARGE_OBJECT || type === LARGE_ARRAY;
  const number = (place: number): number => (isLarge ? readUint32(bytes, place) : readUint16(bytes, place));
  const isObject = type === SMALL_OBJECT || type === LARGE_OBJECT;
  const width = isLarge ? 4 : 2;
  const count = number(at);
  const keys = at + width * 2;
  const values = isObject ? keys + count * (width + 2) : keys;
  need(values, count * (width + 1), bytes.length);
  const children = Array.from({ length: count }, (_, i) => {
    const entry = values + i * (width + 1);
    const inner = bytes[entry]!;
    return readNode(bytes, inner, isInline(inner, isLarge) ? entry + 1 : at + number(entry + 1));
  });
  if (type === SMALL_ARRAY || type === LARGE_ARRAY) return { kind: "array", items: children };
  const members = children.map((value, i) => {
    const entry = keys + i * (width + 2);
    const from = at + number(entry);
    return { key: Buffer.from(bytes.subarray(from, from + readUint16(bytes, entry + width))), value };
  });
  return { kind: "object", members };
}

function print(out: ByteWriter, node: JsonNode): void {
  switch (node.kind) {
    case "scalar":
      return out.copy(node.text, 0, node.text.length);
    case "array":
      out.byte(0x5b);
      node.items.forEach((item, i) => {
        if (i > 0) out.ascii(", ");
        print(out, item);
      });
      return out.byte(0x5d);
    case "object":
      out.byte(0x7b);
      node.members.forEach(({ key, value }, i) => {
        if (i > 0) out.ascii(", ");
        writeQuoted(out, key, 0, key.length);
        out.ascii(": ");
        print(out, value);
      });
      return out.byte(0x7d);
    default:
      return node satisfies never;
  }
}

/** A step of a path into a document. The log has paths as `$`, then members (`.name`, `."any name"`) and items (`[3]`, `[last-1]`). */
type JsonLeg =
  | { readonly kind: "member"; readonly name: Buffer }
  | { readonly kind: "item"; readonly index: number; readonly fromEnd: boolean };

const LEG =
  /\s*(?:\.\s*(?:(?<quoted>"(?:[^"\\]|\\.)*")|(?<plain>[^\s."[\]*]+))|\[\s*(?:(?<index>\d+)|last(?:\s*-\s*(?<back>\d+))?)\s*\])/gsuy;

function parseJsonPath(path: string): readonly JsonLeg[] {
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
