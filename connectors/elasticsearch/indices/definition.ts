/**
 * What the configuration says of indices (`index`): settings, and mappings of fields, over the sink's own. The mapping of an
 * index notes what it was made with, so that a change of the configuration is seen, and one that was made by hand is not
 * taken for one.
 */
import { mostExactFirst, selectedName } from "../../../src/core/table-selection.ts";
import type { Column, TableVersion } from "../../../src/core/model/schema.ts";
import type { ColumnType } from "../../../src/core/model/types.ts";
import { documentField } from "../../../src/core/targets/names.ts";
import type { TableName } from "../../../src/core/contracts/connector.ts";
import { isKept, KEYWORD_CHARACTERS_MAX, type Mapping, mappingOf, nestedMappingOf } from "./types.ts";

/** One entry of `index` in the configuration. */
export interface IndexPart {
  /** Of the index, as the engine names them: nested, or with dots. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** By column, or by the name of a field beside them. */
  readonly properties: Readonly<Record<string, FieldPart>>;
  readonly analyzers: Readonly<Record<string, unknown>>;
}

interface FieldPart {
  readonly [parameter: string]: unknown;
}

/** `all`: for all tables of the sink; `byTable`: for those that a glob fits, of which the most exact one decides. */
export interface IndexParts {
  readonly all: IndexPart | null;
  readonly byTable: readonly { readonly pattern: string; readonly part: IndexPart }[];
}

/** Of one table. */
interface IndexDefinition {
  /** By their whole names. */
  readonly settings: Readonly<Record<string, unknown>>;
  readonly properties: Readonly<Record<string, FieldPart>>;
  /** Fields that a glob gives need no column in each of its tables. */
  readonly isOwn: (field: string) => boolean;
}

export function definitionFor({ all, byTable }: IndexParts, table: TableName): IndexDefinition {
  const name = selectedName(table);
  const [found] = mostExactFirst(byTable, name);
  const parts = [all, found?.part ?? null].filter((part) => part !== null);
  const own = found !== undefined && found.pattern === name ? found.part : null;
  return {
    settings: Object.assign({}, ...parts.map(settingsOf)),
    properties: Object.assign({}, ...parts.map(({ properties }) => properties)),
    isOwn: (field) => own !== null && Object.hasOwn(own.properties, field),
  };
}

function settingsOf({ settings, analyzers }: IndexPart): Record<string, unknown> {
  return Object.fromEntries([...flatSettings(settings), ...flatSettings({ analysis: { analyzer: analyzers } })]);
}

/** By their whole names. */
export function flatSettings(settings: object): [name: string, value: unknown][] {
  return Object.entries(settings).flatMap(([key, value]): [string, unknown][] => {
    if (key === "index" && isObject(value)) return flatSettings(value);
    const name = `index.${key.replace(/^index\./, "")}`;
    if (!isObject(value)) return [[name, value]];
    return flatSettings(value).map(([inner, of]) => [`${name}.${inner.slice("index.".length)}`, of]);
  });
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Settings that rows do not survive, or that are the sink's own: why. Null: it may be set. */
export function keptFromSetting(name: string, value: unknown): string | null {
  if (name === "index.max_result_window" && Number(value) >= PAGE_MAX) return null;
  const found = OWN_SETTINGS.find(([settings]) => settings.test(name));
  return found === undefined ? null : found[1];
}

/** The largest page of a search. */
export const PAGE_MAX = 5_000;

const OWN_SETTINGS: readonly (readonly [settings: RegExp, why: string])[] = [
  [/^index\.(default|final)_pipeline$/, "an ingest pipeline changes or drops documents"],
  [/^index\.translog\.durability$/, "rows must be durable before the sink goes on"],
  [/^index\.gc_deletes$/, "Millrace needs the versions of deleted documents for an hour"],
  [/^index\.(mode|routing_path|time_series\..*)$/, "other modes keep no documents of their own"],
  [/^index\.mapping\.(source\.mode|exclude_source_vectors|synthetic_.*)$/, "the document holds each value exactly"],
  [/^index\.mapping\.depth\.limit$/, "a json column may be as deep as the engine's parser goes"],
  [/^index\.max_result_window$/, `Millrace reads pages of ${PAGE_MAX}`],
  [/^index\.(hidden|blocks\..*|uuid|version\..*|creation_date|provided_name)$/, "Millrace sets it itself"],
];

/** What is wrong with the definition for a table of these columns; `key`: of the configuration, below the entry. */
interface Conflict {
  readonly key: string;
  readonly what: string;
  readonly fix: string;
}

export function conflictsOf(definition: IndexDefinition, columns: readonly Column[]): readonly Conflict[] {
  const { properties, isOwn } = definition;
  const byName = new Map(columns.map((column) => [column.name, column]));
  const copied = copiedTo(properties);
  return Object.entries(properties).flatMap(([name, part]): Conflict[] => {
    const key = `mappings.properties.${name}`;
    const column = byName.get(name);
    if (column === undefined) {
      if (!isOwn(name) || isBeside(name, part, copied)) return [];
      const fix = `name one of its columns (${columns.map((one) => one.name).join(", ")}), or an alias, or a field that \`copy_to\` names`;
      return [{ key, what: "no column has this name", fix }];
    }
    const refused = refusedType(column.type, typeOf(part));
    if (refused === null) return [];
    return [
      {
        key: `${key}.type`,
        what: `${typeOf(part)} can't take the column's values: ${refused}`,
        fix: "choose another type, or leave it out: then Millrace's own type is the field's",
      },
    ];
  });
}

/** A field that no column fills. */
function isBeside(name: string, part: FieldPart, copied: ReadonlySet<string>): boolean {
  return part["type"] === "alias" || part["type"] === "runtime" || copied.has(name);
}

function typeOf(part: FieldPart): string | undefined {
  const { type } = part;
  return typeof type === "string" ? type : isObject(part["properties"]) ? "object" : undefined;
}

const OBJECTS =
  /^(object|nested|flattened|flat_object|join|alias|percolator|histogram|aggregate_metric_double|passthrough)$/;
const RANGES = /_range$/;
const VECTORS = /^(dense_vector|knn_vector|sparse_vector|rank_features|rank_vectors)$/;
const NUMBERS =
  /^(byte|short|integer|long|unsigned_long|half_float|float|double|scaled_float|rank_feature|token_count)$/;
const PLACES = /^(geo_point|geo_shape|point|shape|xy_point|xy_shape)$/;
const TEXTS =
  /^(text|keyword|match_only_text|search_as_you_type|wildcard|completion|version|constant_keyword|annotated_text|semantic_text|semantic)$/;

/** Why a field of this type would refuse all values of the column; null: it takes them, or some. */
function refusedType(type: ColumnType, wanted: string | undefined): string | null {
  if (wanted === undefined) return null;
  if (wanted === "constant_keyword") return "it takes one value for all documents";
  switch (type.kind) {
    case "json":
      return null;
    case "array":
      return type.of.kind === "vector" ? null : refusedType(type.of, wanted);
    case "vector": {
      const sparse = /^(sparse_vector|rank_features|object|flattened|flat_object)$/;
      if (type.form === "sparse") return sparse.test(wanted) ? null : "they are objects of numbers by their indices";
      return /^(dense_vector|knn_vector|object)$/.test(wanted) || NUMBERS.test(wanted)
        ? null
        : "they are arrays of numbers";
    }
    case "bool":
      return wanted === "boolean" || TEXTS.test(wanted) ? null : "they are true and false";
    case "int":
    case "float":
      if (OBJECTS.test(wanted) || RANGES.test(wanted) || VECTORS.test(wanted) || PLACES.test(wanted))
        return "they are numbers";
      return /^(ip|binary|boolean)$/.test(wanted) ? "they are numbers" : null;
    case "bytes":
      return wanted === "binary" || TEXTS.test(wanted) ? null : "they are base64";
    case "decimal":
    case "text":
    case "uuid":
    case "date":
    case "time":
    case "timestamp":
    case "enum":
    case "opaque":
      return OBJECTS.test(wanted) || RANGES.test(wanted) || VECTORS.test(wanted) || wanted === "boolean"
        ? "they are texts"
        : null;
    default:
      return type satisfies never;
  }
}

/** Types whose fields can keep a value that they can't index, so that it makes no document be refused. */
const LENIENT =
  /^(byte|short|integer|long|unsigned_long|half_float|float|double|scaled_float|date|date_nanos|geo_point|geo_shape|point|shape|xy_point|xy_shape|ip)$/;

/** The mapping of a column's field: ours, with what the configuration says of it. */
function fieldMapping(type: ColumnType, part: FieldPart | undefined): Mapping {
  return part === undefined ? mappingOf(type) : merged(type, mappingOf(type), part);
}

/** The same of the fields inside: of relations we know them. */
function merged(type: ColumnType, given: Mapping, part: FieldPart): Mapping {
  const wanted = typeOf(part);
  const ours = wanted === "nested" ? nestedMappingOf(type) : given;
  // Ours takes any JSON, as long as nothing looks into it.
  const isOurs = wanted === ours.type || (wanted === "nested" && ours.properties !== undefined);
  const base = wanted === undefined || (isOurs && !isKept(ours)) ? ours : null;
  const properties = Object.entries(isObject(part["properties"]) ? part["properties"] : {}).map(([name, of]) => {
    const [inner, known] = [typeInside(type, name), base?.properties?.[name]];
    const isKnown = inner !== undefined && known !== undefined && isPart(of);
    return [name, isKnown ? merged(inner, known, of) : lenient(mappingFrom(of))] as const;
  });
  const forms = Object.entries({ ...base?.fields, ...(isObject(part["fields"]) ? part["fields"] : {}) });
  const own: Mapping = {
    ...base,
    ...part,
    ...(isObject(part["properties"])
      ? { properties: { ...base?.properties, ...Object.fromEntries(properties) } }
      : undefined),
    type: wanted ?? ours.type,
  };
  const made = base === null ? lenient(own) : own;
  return forms.length === 0
    ? made
    : { ...made, fields: Object.fromEntries(forms.map(([form, of]) => [form, lenient(mappingFrom(of))])) };
}

function typeInside(type: ColumnType, name: string): ColumnType | undefined {
  if (type.kind !== "json" || type.shape === undefined || "value" in type.shape) return undefined;
  return type.shape.fields.find((field) => field.name === name)?.type;
}

function isPart(of: unknown): of is FieldPart {
  return isObject(of);
}

function mappingFrom(of: unknown): Mapping {
  return isObject(of) ? { type: "object", ...of } : { type: String(of) };
}

function lenient(mapping: Mapping): Mapping {
  const { properties } = mapping;
  if (isObject(properties)) {
    const inner = Object.entries(properties).map(([name, of]) => [name, lenient(mappingFrom(of))]);
    return { ...mapping, properties: Object.fromEntries(inner) };
  }
  if (LENIENT.test(mapping.type)) return { ignore_malformed: true, ...mapping };
  return mapping.type === "keyword" ? { ignore_above: KEYWORD_CHARACTERS_MAX, ...mapping } : mapping;
}

/** The fields that others' values are copied to. */
function copiedTo(properties: IndexDefinition["properties"]): ReadonlySet<string> {
  return new Set(Object.values(properties).flatMap((part) => [part["copy_to"] ?? []].flat().map(String)));
}

/** The fields of a table that the configuration says something of, and those that no column fills. */
export function propertiesBy(
  definition: IndexDefinition,
  table: Pick<TableVersion, "columns">,
): readonly (readonly [field: string, mapping: Mapping])[] {
  const { properties } = definition;
  const names = new Set(table.columns.map(({ name }) => name));
  const copied = copiedTo(properties);
  return [
    ...table.columns.map(({ name, type }) => [documentField(name), fieldMapping(type, properties[name])] as const),
    ...Object.entries(properties)
      .filter(([name, part]) => !names.has(name) && isBeside(name, part, copied))
      .map(([name, part]) => [name, mappingFrom(part)] as const),
  ];
}

/** What an index notes of the definition that it was made with. */
export interface DefinitionNote {
  readonly settings: Readonly<Record<string, unknown>>;
  /** By field. */
  readonly properties: Readonly<Record<string, FieldPart>>;
}

/** By field, what the configuration says of this table's. */
export function notedProperties(
  { properties }: IndexDefinition,
  { columns }: Pick<TableVersion, "columns">,
): Record<string, FieldPart> {
  const names = new Set(columns.map(({ name }) => name));
  return Object.fromEntries(
    Object.entries(properties).map(([name, part]) => [names.has(name) ? documentField(name) : name, part]),
  );
}

/** A field that the index has, and that the configuration describes otherwise than when the index was made; null: none. */
export function redescribed(
  noted: DefinitionNote,
  properties: Readonly<Record<string, FieldPart>>,
  held: ReadonlyMap<string, unknown>,
): string | null {
  const names = new Set([...Object.keys(noted.properties), ...Object.keys(properties)]);
  const other = [...names].find(
    (name) => held.has(name) && spelled(noted.properties[name] ?? null) !== spelled(properties[name] ?? null),
  );
  return other ?? null;
}

/** Names of settings whose wanted value is not the noted one, with that value; null: it is not set any more. */
export function changedSettings(
  noted: DefinitionNote,
  wanted: Readonly<Record<string, unknown>>,
): Readonly<Record<string, unknown>> {
  const names = new Set([...Object.keys(noted.settings), ...Object.keys(wanted)]);
  return Object.fromEntries(
    [...names].flatMap((name) => {
      const value = wanted[name] ?? null;
      return spelled(noted.settings[name] ?? null) === spelled(value) ? [] : [[name, value]];
    }),
  );
}

export function isSameNote(a: DefinitionNote, b: DefinitionNote): boolean {
  return spelled(a) === spelled(b);
}

/** Settings that the index has otherwise than they were set: by hand. */
export function driftedSettings(noted: DefinitionNote, held: Readonly<Record<string, unknown>>): readonly string[] {
  return Object.entries(noted.settings).flatMap(([name, value]) =>
    shown(held[name]) === shown(value) ? [] : [`${name}: ${shown(held[name])} instead of ${shown(value)}`],
  );
}

/** The engines give settings as texts. */
function shown(value: unknown): string {
  if (value === undefined || value === null) return "none";
  if (Array.isArray(value)) return value.map(shown).join();
  return typeof value === "string" ? value : JSON.stringify(value);
}

function spelled(value: unknown): string {
  if (!isObject(value)) return JSON.stringify(Array.isArray(value) ? value.map(spelled) : value);
  const entries = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify(entries.map(([name, of]) => [name, spelled(of)]));
}
