/**
 * How columns are mapped. The document holds the JSON form of src/core/values/json.ts, exactly; the mapping only decides
 * what can be searched, and no value may make it refuse the document: what a field can't take is kept and not indexed
 * (`ignore_malformed`, `ignore_above`).
 *
 *   int                 byte, short, integer, long by width; unsigned ones the next wider, 64 bits unsigned_long
 *   float               float, double                     NaN and the infinities are not indexed
 *   decimal             keyword, and <field>.number as double for ranges
 *   text                keyword up to 8,191 characters, and <field>.text for full-text search
 *   enum, uuid, time    keyword
 *   date, timestamp     date (to the millisecond; the document keeps microseconds); infinity is not indexed
 *   bool                boolean
 *   bytes               binary: kept, not searchable
 *   json                object that is not indexed: takes any JSON, scalars and mixed types included; with a known shape
 *                       (relations of documents) an object whose fields are mapped like columns
 *   vector              dense_vector with its dimension, to be searched by l2_norm; OpenSearch's knn_vector. A sparse one,
 *                       and one without a dimension or of more than 4,096: like json. Within a relation: like json, as the
 *                       engines take one vector of a field in a document; in one that the user makes nested: as here
 *   array               as its elements; of vectors: like json
 *   others              keyword
 */
import type { ColumnType, JsonShape } from "../../../src/core/model/types.ts";

export interface Mapping {
  readonly type: string;
  /** Subfields of the value, each under `<field>.<form>`. */
  readonly fields?: Readonly<Record<string, Mapping>>;
  /** Fields of an object. */
  readonly properties?: Readonly<Record<string, Mapping>>;
  readonly [setting: string]: unknown;
}

/** A keyword's term is limited to 32,766 bytes; a character has up to four. */
export const KEYWORD_CHARACTERS_MAX = 8_191;
const DIMENSION_MAX = 4_096;
/** Takes any JSON; not searchable. */
export const KEPT: Mapping = { type: "object", enabled: false };
const KEYWORD: Mapping = { type: "keyword", ignore_above: KEYWORD_CHARACTERS_MAX };

export function mappingOf(type: ColumnType): Mapping {
  switch (type.kind) {
    case "bool":
      return { type: "boolean" };
    case "int":
      return { type: integerType(type.bits, type.signed), ignore_malformed: true };
    case "float":
      return { type: type.bits === 32 ? "float" : "double", ignore_malformed: true };
    case "decimal":
      return { ...KEYWORD, fields: { number: { type: "double", ignore_malformed: true } } };
    case "text":
      return { ...KEYWORD, fields: { text: { type: "text" } } };
    case "enum":
    case "uuid":
    case "time":
    case "opaque":
      return KEYWORD;
    case "date":
    case "timestamp":
      return { type: "date", format: "strict_date_optional_time_nanos", ignore_malformed: true };
    case "bytes":
      return { type: "binary" };
    case "json":
      return type.shape === undefined ? KEPT : shapeMapping(type.shape);
    case "vector":
      return vectorMapping(type);
    case "array":
      return type.of.kind === "vector" ? KEPT : mappingOf(type.of);
    default:
      return type satisfies never;
  }
}

/** Where each object of a relation is a document to the engine: so it takes a vector of each. */
export function nestedMappingOf(type: ColumnType): Mapping {
  return type.kind === "json" && type.shape !== undefined ? shapeMapping(type.shape, vectorMapping) : mappingOf(type);
}

/** Inside of an object a dot would lead into another one. `ofVector`: of a field of the objects. */
function shapeMapping(shape: JsonShape, ofVector: (type: VectorType) => Mapping = () => KEPT): Mapping {
  if ("value" in shape) return shape.value.kind === "vector" ? KEPT : mappingOf(shape.value);
  if (shape.fields.some(({ name }) => name === "" || name.includes("."))) return KEPT;
  const properties = shape.fields.map(
    ({ name, type }) => [name, type.kind === "vector" ? ofVector(type) : mappingOf(type)] as const,
  );
  return { type: "object", properties: Object.fromEntries(properties) };
}

type VectorType = Extract<ColumnType, { kind: "vector" }>;

/** The engine's `cosine` refuses vectors of zeros alone, which the sources have. */
function vectorMapping({ form, dimension }: VectorType): Mapping {
  if (form === "sparse" || dimension === null || dimension > DIMENSION_MAX) return KEPT;
  return { type: "dense_vector", dims: dimension, index: true, similarity: "l2_norm" };
}

function integerType(bits: number, signed: boolean): string {
  if (bits === 64) return signed ? "long" : "unsigned_long";
  if (bits === 32) return signed ? "integer" : "long";
  if (bits === 24) return "integer";
  if (bits === 16) return signed ? "short" : "integer";
  return signed ? "byte" : "short";
}

/** What takes the place of a type that an engine lacks; the documents are the same. */
const SUBSTITUTES: Readonly<Record<string, (mapping: Mapping) => Mapping>> = {
  unsigned_long: () => ({ type: "keyword" }),
  // OpenSearch's, whose default space is l2.
  dense_vector: ({ dims }) => ({ type: "knn_vector", dimension: dims }),
  // OpenSearch without its plugin.
  knn_vector: () => KEPT,
};

export function hasSubstitute(type: string): boolean {
  return Object.hasOwn(SUBSTITUTES, type);
}

/** The mapping for an engine that lacks some types. */
export function substituted(mapping: Mapping, lacking: ReadonlySet<string>): Mapping {
  const substitute = lacking.has(mapping.type) ? SUBSTITUTES[mapping.type] : undefined;
  if (substitute !== undefined) return substituted(substitute(mapping), lacking);
  const { properties } = mapping;
  if (properties === undefined) return mapping;
  const inner = Object.entries(properties).map(([name, one]) => [name, substituted(one, lacking)] as const);
  return { ...mapping, properties: Object.fromEntries(inner) };
}

/** Whether a field of this type takes what `wanted` takes: it is the same, or what an engine has in its place. */
export function isTaken(held: Readonly<Record<string, unknown>>, wanted: Mapping): boolean {
  const { type = "object" } = held;
  if (type === wanted.type) {
    if (!["dims", "dimension"].every((setting) => held[setting] === wanted[setting])) return false;
    const inner: Readonly<Record<string, unknown>> = Object(held["properties"]);
    return Object.entries(wanted.properties ?? {}).every(
      ([name, one]) => name in inner && isTaken(Object(inner[name]), one),
    );
  }
  const substitute = SUBSTITUTES[wanted.type];
  return substitute !== undefined && isTaken(held, substitute(wanted));
}

/** Whether the field, or one inside of it, is of this type. */
export function holdsType({ type, properties = {} }: Mapping, wanted: string): boolean {
  return type === wanted || Object.values(properties).some((inner) => holdsType(inner, wanted));
}

/** Whether documents keep such a field's values without a look at them. */
export function isKept({ type, enabled }: Mapping): boolean {
  return type === "object" && enabled === false;
}

/** How many fields a mapping counts against index.mapping.total_fields.limit. */
export function fieldCountOf({ fields, properties }: Readonly<Record<string, unknown>>): number {
  const inner: unknown[] = [...Object.values(Object(fields)), ...Object.values(Object(properties))];
  return inner.reduce<number>((count, one) => count + fieldCountOf(Object(one)), 1);
}
