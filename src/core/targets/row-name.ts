/**
 * How a store without tables names a row by one text, as a cache's key or a document's id: `order:{id}`, with the source's key
 * columns in braces.
 */
import type { KeyText } from "../contracts/row-reads.ts";
import type { ColumnType } from "../model/types.ts";

interface KeyColumn {
  readonly name: string;
  readonly type: ColumnType | { readonly kind: "untyped" };
}

const IN_BRACES = /\{([^{}]*)\}/g;
const SPECIAL = /[\\^$.*+?()[\]{}|/]/g;

export class RowName {
  readonly template: string;
  /** What all names begin with. */
  readonly start: string;
  /** Texts, and between them which part of the key. */
  readonly #parts: readonly (string | number)[];
  readonly #form: RegExp;

  private constructor(template: string, parts: readonly (string | number)[], key: readonly KeyColumn[]) {
    this.template = template;
    this.#parts = parts;
    this.start = typeof parts[0] === "string" ? parts[0] : "";
    const forms = parts.map((part) => (typeof part === "string" ? escaped(part) : `(${formOf(key[part]!)})`));
    this.#form = new RegExp(`^${forms.join("")}$`, "su");
  }

  /** A text: why the template can't be used. Other braces than a column's are themselves, as the hash tags of a cluster. */
  static from(template: string, key: readonly KeyColumn[]): RowName | string {
    const parts: (string | number)[] = [];
    let end = 0;
    const add = (text: string): void => {
      if (text === "") return;
      if (typeof parts.at(-1) === "string") parts.push(`${String(parts.pop())}${text}`);
      else parts.push(text);
    };
    for (const match of template.matchAll(IN_BRACES)) {
      const part = key.findIndex(({ name }) => name === match[1]);
      if (part < 0) continue;
      add(template.slice(end, match.index));
      end = match.index + match[0].length;
      parts.push(part);
    }
    add(template.slice(end));
    const wrong = key.find((_, part) => parts.filter((one) => one === part).length !== 1);
    return wrong === undefined
      ? new RowName(template, parts, key)
      : `\`key\` in --map must hold {${wrong.name}} once: ${template}`;
  }

  of(key: KeyText): string {
    return this.#parts.map((part) => (typeof part === "string" ? part : key[part]!)).join("");
  }

  /** Null: it is no row's name. */
  keyIn(name: string): KeyText | null {
    const found = this.#form.exec(name);
    if (found === null) return null;
    const key: string[] = [];
    let group = 0;
    for (const part of this.#parts) if (typeof part === "number") key[part] = found[++group]!;
    return key;
  }
}

/** Narrow where the type allows it: other keys may begin alike, and a text may hold what stands between two columns. */
function formOf({ type }: KeyColumn): string {
  if (type.kind === "int") return String.raw`-?\d+`;
  return type.kind === "uuid" ? "[0-9a-fA-F-]{36}" : ".+";
}

function escaped(text: string): string {
  return text.replaceAll(SPECIAL, String.raw`\$&`);
}

const SEPARATORS = [":", "_", "-", "|", "/", ".", ",", "#"];

/** The form that fits most of these names, and more than half; null: there is none. */
export function guessedName(
  { start, some }: { readonly start: string; readonly some: readonly string[] },
  table: { readonly schema: string; readonly table: string },
  key: readonly KeyColumn[],
): RowName | null {
  const starts = new Set([start, ...some.flatMap((name) => startIn(name, table) ?? [])]);
  let best: RowName | null = null;
  let bestCount = some.length / 2;
  for (const form of [...starts].flatMap((one) => formsWith(one, key))) {
    const count = some.filter((name) => form.keyIn(name) !== null).length;
    if (best !== null ? count <= bestCount : count < bestCount) continue;
    best = form;
    bestCount = count;
  }
  return best;
}

/** By how they begin, the names that may be of this table's rows: behind its own name, in singular or plural. */
export function namesByStart(
  names: Iterable<string>,
  table: { readonly schema: string; readonly table: string },
  key: readonly KeyColumn[],
): ReadonlyMap<string, readonly string[]> {
  const found = new Map<string, string[]>();
  const forms = new Map<string, readonly RowName[]>();
  for (const name of names) {
    const start = startIn(name, table);
    if (start === null) continue;
    const known = forms.get(start) ?? formsWith(start, key);
    forms.set(start, known);
    if (known.every((form) => form.keyIn(name) === null)) continue;
    found.set(start, [...(found.get(start) ?? []), name]);
  }
  return found;
}

function formsWith(start: string, key: readonly KeyColumn[]): readonly RowName[] {
  const separators = key.length === 1 ? [""] : SEPARATORS;
  return separators
    .map((separator) => RowName.from(start + key.map(({ name }) => `{${name}}`).join(separator), key))
    .filter((form) => typeof form !== "string");
}

/** Up to the separator behind the table's name. */
function startIn(name: string, { schema, table }: { readonly schema: string; readonly table: string }): string | null {
  const wanted = new Set([table, schema + table].flatMap((one) => numbersOf(plain(one))));
  for (const { index } of name.matchAll(/[:_|/.,#-]/g)) {
    const before = name.slice(0, index);
    const last = /[^:|/.,#-]*$/.exec(before)![0];
    if (wanted.has(plain(last)) || wanted.has(plain(before))) return name.slice(0, index + 1);
  }
  return null;
}

/** orders, order; boxes, box; categories, category. */
function numbersOf(name: string): readonly string[] {
  return [name, name.replace(/s$/, ""), name.replace(/es$/, ""), name.replace(/ies$/, "y")];
}

/** createdAt and created_at are one name to most tools. */
export function plain(name: string): string {
  return name.replaceAll(/[_\s-]/g, "").toLowerCase();
}
