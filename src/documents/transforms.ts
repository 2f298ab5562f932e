/**
 * Functions of the user's that documents and the objects in them go through. What a function gets and returns is JSON, as the
 * sinks show it, with numbers that keep their digits. They are called where documents are assembled, so that the stream, copies
 * and comparisons have the same.
 *
 *     cells of the root ─► object ─► functions of the objects in it, from the inside ─► the document's own ─► cells, or null
 */
import { ByteWriter } from "../core/bytes.ts";
import { invariant } from "../core/invariant.ts";
import { isRecord } from "../core/stored-json.ts";
import type { SlowFunction } from "../core/contracts/log-admin.ts";
import type { Column } from "../core/model/schema.ts";
import { CELL_TEXT } from "../core/model/tuple.ts";
import type { ColumnType } from "../core/model/types.ts";
import { losslessJson } from "../core/values/exact-json.ts";
import { writeJson } from "../core/values/json.ts";
import { type Functions, loadFunctions, TimedFunction } from "../rules/computed/functions.ts";
import { resultText, spelledValue, WrongResult } from "../rules/computed/results.ts";
import {
  type Document,
  type DocumentNode,
  documentTableId,
  type Relation,
  type WantedDocument,
  type WantedNode,
} from "./document.ts";

/** What documents name, by `FunctionName.text`. */
export function functionsOf(documents: readonly WantedDocument[]): Functions {
  return loadFunctions(
    documents
      .flatMap(({ root }) => Array.from(placesIn(root), ([, { transform }]) => transform?.function ?? []))
      .flat(),
  );
}

/** The same document with the functions as they are now. */
export function withFunctionsOf(document: Document, functions: Functions): Document {
  const digest = (text: string): string => {
    const loaded = functions.get(text);
    return loaded !== undefined && "digest" in loaded ? loaded.digest : "";
  };
  const stamped = ({ transform, relations, ...node }: DocumentNode): DocumentNode => ({
    ...node,
    relations: relations.map((one) => ({ ...one, node: stamped(one.node) })),
    transform: transform === null ? null : { ...transform, digest: digest(transform.function) },
  });
  return { ...document, root: stamped(document.root) };
}

export function isTransformed({ root }: Pick<Document, "root">): boolean {
  const within = ({ transform, relations }: DocumentNode): boolean =>
    transform !== null || relations.some(({ node }) => within(node));
  return within(root);
}

/** The functions of a configuration's documents, each by its place: the document's name, then those of relations. */
export class Transforms {
  readonly #functions = new Map<string, TimedFunction>();

  /** Those that can't be loaded are left out: no document that needs one is resolved. */
  constructor(documents: readonly WantedDocument[] = [], functions: Functions = functionsOf(documents)) {
    for (const { name, root } of documents) {
      for (const [path, { transform }] of placesIn(root)) {
        const loaded = transform === null ? undefined : functions.get(transform.function.text);
        if (transform === null || loaded === undefined || !("digest" in loaded)) continue;
        this.#functions.set(placeText(name, path), new TimedFunction(loaded, transform.budgetMs));
      }
    }
  }

  at(document: string, path: readonly string[]): TimedFunction | null {
    return this.#functions.get(placeText(document, path)) ?? null;
  }

  hasAllOf({ name, root }: Document): boolean {
    const within = ({ transform, relations }: DocumentNode, path: readonly string[]): boolean =>
      (transform === null || this.at(name, path)?.text === transform.function) &&
      relations.every((one) => within(one.node, [...path, one.name]));
    return within(root, []);
  }

  /** Average times of calls that are beyond their budgets. */
  slow(): readonly SlowFunction[] {
    return Array.from(this.#functions).flatMap(([place, { slowMs, text, budgetMs }]) => {
      if (slowMs === null) return [];
      const [name = "", ...path] = place.split("\n");
      const column = path.length === 0 ? null : path.join(".");
      return [{ table: documentTableId(name), column, function: text, averageMs: slowMs, budgetMs }];
    });
  }
}

function placeText(document: string, path: readonly string[]): string {
  return [document, ...path].join("\n");
}

function* placesIn(
  node: WantedNode,
  path: readonly string[] = [],
): Generator<readonly [readonly string[], WantedNode]> {
  yield [path, node];
  for (const one of node.relations) yield* placesIn(one, [...path, one.name]);
}

/** What a function, or several, made of a document. */
export type Transformed =
  /** The canonical texts of its columns. */
  | { readonly kind: "document"; readonly texts: readonly (string | null)[] }
  | { readonly kind: "leftOut" }
  /** Which function failed, how and where; without values. */
  | { readonly kind: "failed"; readonly how: string };

const LEFT_OUT: Transformed = { kind: "leftOut" };

/** A relation in which functions are called. */
interface Within {
  readonly name: string;
  readonly many: boolean;
  readonly function: TimedFunction | null;
  readonly relations: readonly Within[];
}

const TOO_DEEP = "a value in the document is nested too deeply for a function";

/** Carries what a function failed with to where the document is given up. */
class Failed extends Error {}

/** One document's functions. */
export class Transforming {
  /** What is assembled: the root's fields, then its relations. */
  readonly #given: readonly Column[];
  /** What goes out: the same, then the fields that are added. */
  readonly #made: readonly Column[];
  readonly #key: ReadonlySet<number>;
  readonly #function: TimedFunction | null;
  readonly #relations: readonly Within[];
  readonly #names: ReadonlySet<string>;
  readonly #json = new ByteWriter(1024);

  constructor(
    { name, root }: Document,
    columns: { readonly given: readonly Column[]; readonly made: readonly Column[]; readonly key: readonly number[] },
    transforms: Transforms,
  ) {
    this.#given = columns.given;
    this.#made = columns.made;
    this.#key = new Set(columns.key);
    this.#names = new Set(columns.made.map((column) => column.name));
    const functionAt = ({ transform }: DocumentNode, path: readonly string[]): TimedFunction | null => {
      if (transform === null) return null;
      const found = transforms.at(name, path);
      invariant(found !== null, "a document's functions are loaded before it is built");
      return found;
    };
    const within = ({ name: field, many, node }: Relation, above: readonly string[]): readonly Within[] => {
      const path = [...above, field];
      const relations = node.relations.flatMap((one) => within(one, path));
      const own = functionAt(node, path);
      return own === null && relations.length === 0 ? [] : [{ name: field, many, function: own, relations }];
    };
    this.#function = functionAt(root, []);
    this.#relations = root.relations.flatMap((one) => within(one, []));
  }

  /** `texts`: of the columns that are given. */
  apply(texts: readonly (string | null)[]): Transformed {
    try {
      return this.#function === null ? this.#within(texts) : this.#whole(this.#function, texts);
    } catch (error) {
      if (error instanceof Failed) return { kind: "failed", how: error.message };
      // The stack has overflowed: Postgres takes JSON of thousands of levels.
      if (error instanceof RangeError) return { kind: "failed", how: TOO_DEEP };
      throw error;
    }
  }

  /** Only relations change. */
  #within(texts: readonly (string | null)[]): Transformed {
    const made = [...texts];
    for (const relation of this.#relations) {
      const i = this.#given.findIndex(({ name }) => name === relation.name);
      const text = texts[i];
      if (text == null) continue;
      const value = reshaped(relation, losslessJson(text));
      if (value === null) made[i] = null;
      else made[i] = spelledValue(value) ?? tooDeep();
    }
    return { kind: "document", texts: made };
  }

  #whole(called: TimedFunction, texts: readonly (string | null)[]): Transformed {
    const document = losslessJson(this.#jsonOf(texts));
    if (!isRecord(document)) return LEFT_OUT;
    for (const relation of this.#relations)
      document[relation.name] = reshaped(relation, document[relation.name] ?? null);
    // The function may write into what it gets.
    const before = this.#given.map(({ name, type }) => comparable(type, document[name]));
    const result = resultOf(called, document);
    if (result === null) return LEFT_OUT;
    for (const name of Object.keys(result))
      if (!this.#names.has(name))
        throw failed(called, "returned a field that the document does not have; name it in `fields`");
    return {
      kind: "document",
      texts: this.#made.map((column, i) => {
        const value = Object.hasOwn(result, column.name) ? result[column.name] : null;
        const given = this.#given[i];
        if (
          given?.type === column.type &&
          typeof before[i] !== "object" &&
          comparable(column.type, value) === before[i]
        )
          return texts[i]!;
        if (this.#key.has(i)) throw failed(called, "changed the document's key");
        return value === null ? null : fieldText(called, column, value);
      }),
    };
  }

  #jsonOf(texts: readonly (string | null)[]): string {
    const json = this.#json;
    json.reset();
    for (const [i, { name, type }] of this.#given.entries()) {
      json.utf8(`${i === 0 ? "{" : ","}${JSON.stringify(name)}:`);
      const text = texts[i] ?? null;
      if (text === null) json.ascii("null");
      else {
        const bytes = Buffer.from(text);
        writeJson(json, type, CELL_TEXT, bytes, 0, bytes.length);
      }
    }
    json.ascii("}");
    return Buffer.from(json.bytes.buffer, json.bytes.byteOffset, json.length).toString("utf8");
  }
}

function tooDeep(): never {
  throw new Failed(TOO_DEEP);
}

/** Objects stay what they are: the function may have written into them. Of vectors and arrays, which hold no objects, the JSON. */
function comparable({ kind }: ColumnType, value: unknown): unknown {
  return (kind === "vector" || kind === "array") && Array.isArray(value) ? spelledValue(value) : value;
}

/** What functions make of the objects of a relation. */
function reshaped(relation: Within, value: unknown): unknown {
  if (value === null) return null;
  if (!relation.many) return reshapedObject(relation, value);
  return Array.isArray(value)
    ? value.map((one: unknown) => reshapedObject(relation, one)).filter((one) => one !== null)
    : value;
}

function reshapedObject(relation: Within, object: unknown): unknown {
  if (!isRecord(object)) return object;
  for (const below of relation.relations) object[below.name] = reshaped(below, object[below.name] ?? null);
  if (relation.function === null) return object;
  const result = resultOf(relation.function, object);
  if (result !== null && spelledValue(result) === undefined)
    throw failed(relation.function, "returned a value that JSON does not have");
  return result;
}

function resultOf(called: TimedFunction, object: unknown): Readonly<Record<string, unknown>> | null {
  let result: unknown;
  try {
    result = called.call(object);
  } catch (error) {
    throw new Failed(called.failure(error));
  }
  if (result === null) return null;
  const prototype: unknown = typeof result === "object" ? Object.getPrototypeOf(result) : undefined;
  if (isRecord(result) && (prototype === Object.prototype || prototype === null)) return result;
  if (result instanceof Promise) result.catch(() => undefined);
  throw failed(called, "returned no plain object; expected the document, or null");
}

function failed(called: TimedFunction, what: string): Failed {
  return new Failed(called.failure(new WrongResult(what)));
}

/** The canonical text of a field: of its JSON form, or of what a computed column may be made of. */
function fieldText(called: TimedFunction, { name, type }: Column, value: unknown): string {
  try {
    if (type.kind !== "json") return resultText(type, fromJson(type, value));
    const text = spelledValue(value);
    if (text !== undefined) return text;
    throw new WrongResult("returned a value that JSON does not have");
  } catch (error) {
    if (error instanceof WrongResult) throw failed(called, `${error.message} (field ${name})`);
    throw new Failed(called.failure(error));
  }
}

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** Types whose JSON is not what a function of a computed column would return. */
function fromJson(type: ColumnType, value: unknown): unknown {
  if (typeof value !== "string") return value;
  if (type.kind === "bytes" && BASE64.test(value)) return Uint8Array.from(Buffer.from(value, "base64"));
  if (type.kind === "float" && /^(NaN|-?Infinity)$/.test(value)) return Number(value);
  return value;
}
