import {
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
  visit,
  type Document,
  type Node,
  type Pair,
  type YAMLError,
} from "yaml";
import type { Problem } from "./errors.ts";

type LineAndColumn = Pick<Problem, "line" | "column">;

/** A parsed YAML file that still knows the line of each key and value. */
export class YamlFile {
  readonly text: string;
  readonly #document: Document;
  readonly #lines: LineCounter;

  constructor(text: string) {
    this.text = text;
    this.#lines = new LineCounter();
    this.#document = parseDocument(text, { lineCounter: this.#lines, prettyErrors: false });
  }

  problems(): readonly Problem[] {
    return faultsOf(this.#document).map(({ at, message }) => ({
      code: "MR1002",
      path: [],
      ...this.#at(at),
      message,
    }));
  }

  /** Replaces scalar texts, quoted or plain; keys stay unchanged. */
  mapText(change: (text: string, path: readonly string[]) => string): void {
    visit(this.#document, {
      Scalar: (role, scalar, ancestors) => {
        if (role === "key" || typeof scalar.value !== "string") return;
        scalar.value = change(scalar.value, pathOf(ancestors, scalar));
      },
    });
  }

  value(): unknown {
    return this.#document.toJS();
  }

  /** The line and column of the value at `path`, or of its key; if it is missing, those of the nearest container. */
  locate(path: readonly string[], part: "key" | "value"): LineAndColumn {
    let node: unknown = this.#document.contents;
    let found = offsetOf(node);
    for (const [depth, name] of path.entries()) {
      if (isAlias(node)) node = node.resolve(this.#document);
      const isLast = depth === path.length - 1;
      if (isMap(node)) {
        const pair = node.items.find((item) => keyOf(item) === name);
        if (pair === undefined) break;
        found = (isLast && part === "value" ? offsetOf(pair.value) : undefined) ?? offsetOf(pair.key) ?? found;
        node = pair.value;
      } else if (isSeq(node)) {
        node = node.items[Number(name)];
        found = offsetOf(node) ?? found;
      } else break;
    }
    return this.#at(found ?? 0);
  }

  #at(offset: number): LineAndColumn {
    const { line, col } = this.#lines.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  }
}

interface Fault {
  /** Its place in the text. */
  readonly at: number;
  readonly message: string;
}

/** What is wrong in a document, or would be lost without a word. No message quotes it: it may hold a password. */
export function faultsOf(document: Document): readonly Fault[] {
  const faults: Fault[] = document.errors.map((error) => ({ at: error.pos[0], message: said(error) }));
  const expectNoTag = (node: Node): void => {
    if (node.tag !== undefined && !TAGS.has(node.tag)) faults.push({ at: node.range?.[0] ?? 0, message: TAG });
  };
  visit(document, {
    Scalar: (_key, scalar) => expectNoTag(scalar),
    Seq: (_key, seq) => expectNoTag(seq),
    Map: (_key, map) => {
      expectNoTag(map);
      const byText = new Map<string, Pair>();
      for (const pair of map.items) {
        const text = keyOf(pair);
        const earlier = byText.get(text);
        byText.set(text, pair);
        const at = offsetOf(pair.key) ?? 0;
        // Keys of one type that are equal are errors of the file already.
        if (earlier !== undefined && !areEqual(earlier.key, pair.key)) faults.push({ at, message: GIVEN_TWICE });
        // An object of JavaScript loses it: a mask, say, would hide nothing.
        if (text === "__proto__") faults.push({ at, message: NO_KEY });
      }
    },
    Alias: (_key, alias) => {
      if (alias.resolve(document) === undefined) faults.push({ at: alias.range?.[0] ?? 0, message: UNKNOWN_ALIAS });
    },
  });
  return faults;
}

/** Without the alias's name: it may be a password that begins with `*`. */
const UNKNOWN_ALIAS = "not valid YAML: an alias without its anchor; a value that begins with `*` needs quotes";

/** Without the tag: it may be a password that begins with `!`. YAML would drop it: a table that is left out, say, would be taken. */
const TAG = "a tag, which has no meaning here; a value that begins with `!` needs quotes";
const TAGS = new Set(["str", "int", "float", "bool", "null", "map", "seq"].map((name) => `tag:yaml.org,2002:${name}`));

const GIVEN_TWICE = "this key is given twice in one map";
const NO_KEY = "no key can be named __proto__; where keys are globs, __proto_? fits that name";

function said(error: YAMLError): string {
  if (error.code === "DUPLICATE_KEY") return GIVEN_TWICE;
  // After the colon the message quotes the file: an alias, a tag or a text that may be a password.
  return `not valid YAML: ${error.message.split(":", 1)[0] ?? ""}`;
}

function offsetOf(node: unknown): number | undefined {
  return isMap(node) || isSeq(node) || isScalar(node) || isAlias(node) ? node.range?.[0] : undefined;
}

function areEqual(a: unknown, b: unknown): boolean {
  return isScalar(a) && isScalar(b) && a.value === b.value;
}

function keyOf(pair: Pair): string {
  return String(isScalar(pair.key) ? pair.key.value : pair.key);
}

function pathOf(ancestors: readonly (Document | Node | Pair)[], last: Node): string[] {
  const path: string[] = [];
  for (const [i, node] of ancestors.entries()) {
    const child: unknown = ancestors[i + 1] ?? last;
    if (isMap(node) || isSeq(node)) {
      const at = node.items.findIndex((item) => item === child);
      if (isSeq(node)) path.push(String(at));
    } else if ("key" in node && "value" in node && !isScalar(node)) {
      path.push(keyOf(node));
    }
  }
  return path;
}
