/**
 * Debezium selects tables and columns by lists of regular expressions that match whole names, whatever their case.
 * Millrace has globs. An expression is read as alternatives of simple parts, each of which a glob says; what no glob says
 * makes it wider, and `isExact` false.
 */

import { TABLE_GLOB } from "../../core/table-selection.ts";

/** One part of a name: a character, or what stands for characters; `isDotless`: for any but a dot. */
type Part =
  | { readonly kind: "character"; readonly text: string }
  | { readonly kind: "one" | "many"; readonly isDotless?: true };

export interface Alternative {
  readonly parts: readonly Part[];
  /** Of a negative lookahead: names that begin, or are, so are not meant. */
  readonly without: readonly (readonly Part[])[];
  /** False: it stands for more names than the expression does. */
  readonly isExact: boolean;
}

const ONE: Part = { kind: "one" };
const MANY: Part = { kind: "many" };

/** The expressions of a list. As in Debezium, `\,` is a comma inside one. */
export function expressionsOf(list: string): readonly string[] {
  return (list.match(/(?:\\[^]|[^\\,])+/g) ?? [])
    .map((expression) => expression.trim().replaceAll("\\,", ","))
    .filter((expression) => expression !== "");
}

/** Null: it has something that is not even approximately a glob. */
export function readExpression(expression: string): readonly Alternative[] | null {
  const reader = new ExpressionReader(expression.replace(/^\(\?i\)/, ""));
  const found = reader.alternatives();
  if (found === null || !reader.isAtEnd) return null;
  const anchored = found.map(withoutAnchors);
  return anchored.includes(null) ? null : anchored.filter((each) => each !== null);
}

/**
 * Globs for whole names `schema.table`: a glob must have a dot, so if an alternative has none, one of its parts stands
 * for it. Without a dot in any way, there are none.
 */
export function tableGlobs(parts: readonly Part[]): readonly string[] {
  if (parts.some(isDot)) return isTableGlob(globOf(parts)) ? [globOf(parts)] : [];
  const globs = parts.flatMap((part, at): string[] => {
    if (part.kind === "character" || part.isDotless === true) return [];
    const dotted = part.kind === "one" ? "." : "*.*";
    return [globOf(parts.slice(0, at)) + dotted + globOf(parts.slice(at + 1))];
  });
  return globs.filter(isTableGlob);
}

export interface ColumnPlace {
  readonly table: string;
  readonly column: string;
  /** True: the dot before the column is one of the expression, and not what stands for it. */
  readonly isOwnDot: boolean;
}

/** Globs for `schema.table.column`: the last dot of the name is a dot of the expression, or what stands for it. */
export function columnPlaces(parts: readonly Part[]): readonly ColumnPlace[] {
  return parts.flatMap((part, at) => {
    if (part.kind === "character" ? part.text !== "." : part.isDotless === true) return [];
    const isMany = part.kind === "many";
    const before = isMany ? parts.slice(0, at + 1) : parts.slice(0, at);
    const after = isMany ? parts.slice(at) : parts.slice(at + 1);
    if (after.length === 0 || after.some(isDot)) return [];
    const isOwnDot = part.kind === "character";
    return tableGlobs(before).map((table) => ({ table, column: globOf(after), isOwnDot }));
  });
}

/** Globs for names without a dot. */
export function nameGlobs(parts: readonly Part[]): readonly string[] {
  return parts.length === 0 || parts.some(isDot) ? [] : [globOf(parts)];
}

export function globOf(parts: readonly Part[]): string {
  const texts = parts.map((part) => (part.kind === "character" ? part.text : part.kind === "one" ? "?" : "*"));
  return texts.join("").replaceAll(/\*{2,}/g, "*");
}

function isTableGlob(glob: string): boolean {
  return !glob.startsWith("!") && TABLE_GLOB.test(glob);
}

function isDot(part: Part): boolean {
  return part.kind === "character" && part.text === ".";
}

/** True if some name fits both globs, whatever its case. */
export function haveCommonNames(one: string, other: string): boolean {
  const [a, b] = [one.toLowerCase(), other.toLowerCase()];
  // From the ends: does some text fit both rests?
  let below: readonly boolean[] = [];
  for (let i = a.length; i >= 0; i -= 1) {
    const row: boolean[] = [];
    for (let j = b.length; j >= 0; j -= 1) {
      const [x = "", y = ""] = [a[i], b[j]];
      if (x === "" && y === "") row[j] = true;
      else if (x === "*" || y === "*") row[j] = (below[j] ?? false) || (row[j + 1] ?? false);
      else row[j] = x !== "" && y !== "" && (x === y || x === "?" || y === "?") && below[j + 1]!;
    }
    below = row;
  }
  return below[0]!;
}

/** A group of many alternatives would fill the file. */
const ALTERNATIVES_MAX = 100;
const REPEATED_MAX = 3;
/** Larger classes become a wider part. */
const CLASS_MAX = 12;

/** While reading, anchors are parts too. */
type Token = Part | { readonly kind: "start" | "end" };
interface Sequence {
  readonly parts: readonly Token[];
  readonly without: readonly (readonly Part[])[];
  readonly isExact: boolean;
}

const EMPTY: Sequence = { parts: [], without: [], isExact: true };

function exactly(...parts: readonly Token[]): Sequence {
  return { parts, without: [], isExact: true };
}

function wider(...parts: readonly Part[]): Sequence {
  return { parts, without: [], isExact: false };
}

function character(text: string): Part {
  return { kind: "character", text };
}

/** Null where an anchor stands inside a name. */
function withoutAnchors({ parts, without, isExact }: Sequence): Alternative | null {
  const first = parts.findIndex(({ kind }) => kind !== "start");
  const last = parts.findLastIndex(({ kind }) => kind !== "end");
  const inner = first < 0 ? [] : parts.slice(first, last + 1);
  const plain = inner.filter((part): part is Part => part.kind !== "start" && part.kind !== "end");
  return plain.length < inner.length ? null : { parts: plain, without, isExact };
}

class ExpressionReader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#text.length;
  }

  alternatives(): readonly Sequence[] | null {
    const all: Sequence[] = [];
    do {
      const sequences = this.#sequence();
      if (sequences === null) return null;
      all.push(...sequences);
    } while (this.#takes("|"));
    return all.length > ALTERNATIVES_MAX ? null : all;
  }

  #sequence(): readonly Sequence[] | null {
    let found: readonly Sequence[] = [EMPTY];
    while (!this.isAtEnd && !"|)".includes(this.#text.charAt(this.#at))) {
      const next = this.#takes("(?!") ? this.#prefetch(found) : this.#appended(found);
      if (next === null || next.length > ALTERNATIVES_MAX) return null;
      found = next;
    }
    return found;
  }

  /** What must not follow: known only behind a fixed start. */
  #prefetch(starts: readonly Sequence[]): readonly Sequence[] | null {
    const inner = this.alternatives();
    if (inner === null || !this.#takes(")")) return null;
    const isSimple = inner.every(({ isExact, without }) => isExact && without.length === 0);
    return starts.map((start) => {
      const without = inner.map(({ parts }) => {
        const isWhole = parts.at(-1)?.kind === "end";
        return withoutAnchors(exactly(...start.parts, ...parts, ...(isWhole ? [] : [MANY])))?.parts ?? null;
      });
      const known = without.filter((parts) => parts !== null);
      const isFixed = start.parts.every(({ kind }) => kind !== "many");
      if (!isSimple || !isFixed || known.length < without.length) return { ...start, isExact: false };
      return { ...start, without: [...start.without, ...known] };
    });
  }

  #appended(starts: readonly Sequence[]): readonly Sequence[] | null {
    const atom = this.#atom();
    if (atom === null) return null;
    const ends = this.#repeated(atom);
    if (ends === null || starts.length * ends.length > ALTERNATIVES_MAX) return null;
    return starts.flatMap((start) => ends.map((end) => joined(start, end)));
  }

  #atom(): readonly Sequence[] | null {
    if (this.#takes("^")) return [exactly({ kind: "start" })];
    if (this.#takes("$")) return [exactly({ kind: "end" })];
    if (this.#takes("(")) {
      if (
        this.#text.startsWith("?", this.#at) &&
        !this.#takes("?:") &&
        this.#takesMatch(/\?<[A-Za-z][A-Za-z0-9]*>/y) === null
      )
        return null;
      const inner = this.alternatives();
      return inner !== null && this.#takes(")") ? inner : null;
    }
    if (this.#takes(".")) return [exactly(ONE)];
    if (this.#takes(String.raw`\d`)) return oneOf("0123456789");
    if (this.#takesMatch(/\\[DwWsS]/y) !== null) return [wider(ONE)];
    const set = this.#takesMatch(/\[(\^?)((?:\\.|[^\\[\]&])+)\]/y);
    if (set !== null) return this.#set(set[1] === "^", set[2] ?? "");
    const escaped = this.#takesMatch(/\\([^A-Za-z0-9])/uy);
    // A glob has no way to write its own signs.
    if (escaped !== null) return [/[*?]/.test(escaped[0]) ? wider(ONE) : exactly(character(escaped[1] ?? ""))];
    const plain = this.#takesMatch(/[^\\*?+()[\]{}|^$.]/uy);
    return plain === null ? null : [exactly(character(plain[0]))];
  }

  #set(isNegated: boolean, text: string): readonly Sequence[] | null {
    // The name of a schema or a table has no dots, so that "no dot" is any character of one.
    if (isNegated) return [/^\\?\.$/.test(text) ? exactly({ kind: "one", isDotless: true }) : wider(ONE)];
    let members = "";
    for (const [whole, escaped, from, to] of text.matchAll(/\\(.)|([^\\])-([^\\])|[^\\]/gsu)) {
      if (escaped === "d") members += "0123456789";
      else if (escaped !== undefined && /[A-Za-z0-9]/.test(escaped)) return [wider(ONE)];
      else if (from === undefined || to === undefined) members += escaped ?? whole;
      else {
        const [first = 0, last = 0] = [from.codePointAt(0), to.codePointAt(0)];
        if (last < first) return null;
        if (last - first >= CLASS_MAX) return [wider(ONE)];
        for (let code = first; code <= last; code += 1) members += String.fromCodePoint(code);
      }
    }
    return new Set(members).size > CLASS_MAX || /[*?]/.test(members) ? [wider(ONE)] : oneOf(members);
  }

  #repeated(atom: readonly Sequence[]): readonly Sequence[] | null {
    const found = this.#takesMatch(/(?:[*+?]|\{(\d+)(?:(,)(\d*))?\})[?+]?/y);
    if (found === null) return atom;
    const [text, least, comma, most] = found;
    const min = least === undefined ? (text.startsWith("+") ? 1 : 0) : Number(least);
    const max =
      least !== undefined
        ? comma === undefined
          ? min
          : most === ""
            ? Infinity
            : Number(most)
        : text.startsWith("?")
          ? 1
          : Infinity;
    if (atom.some(({ parts }) => parts.some(({ kind }) => kind === "start" || kind === "end"))) return null;
    const [alone] = atom.length === 1 && atom[0]!.parts.length === 1 ? atom[0]!.parts : [];
    if (max === Infinity) {
      if (min > REPEATED_MAX || atom.length ** min > ALTERNATIVES_MAX) return null;
      const end = alone?.kind === "one" && atom[0]!.isExact ? exactly({ ...alone, kind: "many" }) : wider(MANY);
      return times(atom, min).map((start) => joined(start, end));
    }
    if (max > REPEATED_MAX || max < min || atom.length ** max > ALTERNATIVES_MAX) return null;
    return Array.from({ length: max - min + 1 }, (_, i) => times(atom, min + i)).flat();
  }

  #takes(text: string): boolean {
    if (!this.#text.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    return true;
  }

  #takesMatch(expression: RegExp): RegExpExecArray | null {
    expression.lastIndex = this.#at;
    const found = expression.exec(this.#text);
    if (found !== null) this.#at += found[0].length;
    return found;
  }
}

function joined(start: Sequence, end: Sequence): Sequence {
  return {
    parts: [...start.parts, ...end.parts],
    without: [...start.without, ...end.without],
    isExact: start.isExact && end.isExact && (end.without.length === 0 || start.parts.length === 0),
  };
}

function times(atom: readonly Sequence[], count: number): readonly Sequence[] {
  let found: readonly Sequence[] = [EMPTY];
  for (let i = 0; i < count; i += 1) found = found.flatMap((start) => atom.map((end) => joined(start, end)));
  return found;
}

function oneOf(members: string): readonly Sequence[] {
  return [...new Set(members)].map((member) => exactly(character(member)));
}
