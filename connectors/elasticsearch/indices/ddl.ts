import * as z from "zod";
import type { ShapeNote } from "../../../src/core/targets/base-floors.ts";
import { invariant } from "../../../src/core/invariant.ts";
import { documentField } from "../../../src/core/targets/names.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { TIME_FIELD, VERSION_FIELD } from "../write/document.ts";
import { STORED_SHAPE } from "../../kit/stored-shape.ts";
import { classifyEngine, partError, searchError, tooManyShards } from "../errors.ts";
import { type Answer, errorOf, fieldOf, parsed, pathOf, type SearchClient } from "../http.ts";
import type { IndexIdentity } from "./tables.ts";
import { fieldCountOf, type Mapping, mappingOf } from "./types.ts";

/** How long the engine remembers the version of a deleted document: longer than a replay takes. */
const GC_DELETES = "1h";
/**
 * How long to wait for an index without its shard; other tables wait too. The engines' default is half a minute or one
 * minute.
 */
export const SHARD_TIMEOUT = "5s";
/** What a template of the engine could set otherwise. */
export const SURE = {
  "index.default_pipeline": "_none",
  "index.final_pipeline": "_none",
  "index.translog.durability": "request",
};
/** The largest page of a search. */
const PAGE_MAX = 5_000;
const FIELDS_MAX_DEFAULT = 1_000;
/** JSON that is only stored still counts; the engines' parser stops at this depth. */
const DEPTH_MAX = 1_000;

export interface IndexOptions {
  /** Whose indices they are: written into each. */
  readonly owner: string;
  readonly replicas: number | undefined;
  readonly shards: number | undefined;
  readonly refreshInterval: string;
}

const FIELD = z.looseObject({ type: z.string().optional(), fields: z.record(z.string(), z.unknown()).optional() });
const MARK = z.object({
  daemon: z.string().optional(),
  table: z.string().optional(),
  shape: STORED_SHAPE.optional(),
  checkpoint: z.boolean().optional(),
});
const INDEX = z.object({
  aliases: z.record(z.string(), z.record(z.string(), z.unknown())).default({}),
  mappings: z
    .object({
      _meta: z.looseObject({ millrace: MARK.optional() }).optional(),
      _source: z.record(z.string(), z.unknown()).optional(),
      _routing: z.object({ required: z.boolean().optional() }).optional(),
      properties: z.record(z.string(), FIELD).optional(),
    })
    .prefault({}),
  settings: z.looseObject({
    "index.uuid": z.string(),
    "index.mapping.total_fields.limit": z.coerce.number().default(FIELDS_MAX_DEFAULT),
  }),
  /** Whose part it is. */
  data_stream: z.string().optional(),
});
const INDICES = z.record(z.string(), INDEX);

export type StoredIndex = z.output<typeof INDEX>;

/** What of an index tells whether it is the sink's own, for `filter_path`. */
export const WITHOUT_FIELDS =
  "*.aliases,*.mappings._meta,*.mappings._source,*.mappings._routing,*.settings,*.data_stream";

/**
 * By name, those that exist of these indices, or behind these aliases and data streams. `parts`: of each, for
 * `filter_path`.
 */
export async function storedIndices(
  client: SearchClient,
  names: readonly string[],
  what: { readonly text: string; readonly table?: string; readonly parts?: string },
  signal: AbortSignal,
): Promise<readonly (readonly [index: string, StoredIndex])[]> {
  const query = { flat_settings: "true", ignore_unavailable: "true", allow_no_indices: "true" };
  const { parts, text, table } = what;
  const filtered = parts === undefined ? query : { ...query, filter_path: parts };
  const answer = await client.request({ method: "GET", path: pathOf(names), query: filtered }, signal);
  if (answer.status === 404) return [];
  expectOk(answer, text, table);
  const found = Object.entries(INDICES.parse(parsed(answer.body)));
  if (found.every(([, { data_stream: stream }]) => stream === undefined)) return found;
  // The engines don't say which name led to a data stream: it is asked for alone, and then counts as an alias.
  const [name, ...others] = names;
  if (others.length === 0)
    return found.map(([index, there]) => [index, { ...there, aliases: { ...there.aliases, [name!]: {} } }]);
  const merged = new Map<string, StoredIndex>();
  for (const one of names) {
    for (const [index, there] of await storedIndices(client, [one], what, signal)) {
      merged.set(index, { ...there, aliases: { ...merged.get(index)?.aliases, ...there.aliases } });
    }
  }
  return [...merged];
}

/** What documents do not survive, or the sink's searches, with its value: null for none. `names`: its aliases that readers use. */
export function unfitSetting({ mappings, settings, aliases }: StoredIndex, names: readonly string[]): string | null {
  const { _source: source = {}, _routing: routing } = mappings;
  const isWhole = Object.entries(source).every(
    ([key, value]) => (key === "enabled" && value === true) || (key === "mode" && value === "stored"),
  );
  if (!isWhole) return `_source: ${JSON.stringify(source)}`;
  if (routing?.required === true) return "_routing: required";
  for (const [name, fits] of FITTING) {
    const value: unknown = settings[name];
    if (typeof value === "string" && !fits(value)) return `${name}: ${value}`;
  }
  const narrowed = names.find((name) => Object.keys(aliases[name] ?? {}).some((key) => NARROWING.has(key)));
  return narrowed === undefined ? null : `a filter or a routing of the alias ${narrowed}`;
}

const isNone = (value: string): boolean => value === "_none";
/** Ingest pipelines change or drop documents; rows must be durable before the checkpoint is; other modes keep no documents. */
const FITTING: readonly (readonly [setting: string, fits: (value: string) => boolean])[] = [
  ["index.default_pipeline", isNone],
  ["index.final_pipeline", isNone],
  ["index.translog.durability", (value) => value.toLowerCase() === "request"],
  ["index.mode", (value) => value === "standard"],
  ["index.mapping.source.mode", (value) => value.toLowerCase() === "stored"],
  ["index.max_result_window", (value) => Number(value) >= PAGE_MAX],
];
const NARROWING = new Set(["filter", "routing", "index_routing", "search_routing"]);

export interface FoundIndex extends IndexIdentity {
  readonly fields: ReadonlyMap<string, z.output<typeof FIELD>>;
  readonly fieldCountMax: number;
  /** Null in an index that an older Millrace created. */
  readonly note: ShapeNote | null;
}

export interface FoundIndices {
  /** The index behind the table's alias. */
  readonly current: FoundIndex | null;
  /** The index behind the alias for filling. */
  readonly next: FoundIndex | null;
}

/** Where indices are, and how they are made. */
export interface Engine {
  readonly client: SearchClient;
  readonly options: IndexOptions;
}

export interface Aliases {
  readonly alias: string;
  readonly nextAlias: string;
}

/** An index to be made. `isHidden`: wildcards don't find it. */
export interface NewIndex {
  readonly index: string;
  readonly alias: string;
  /** See WriteFence. */
  readonly writeAlias: string;
  readonly isHidden: boolean;
  readonly note: ShapeNote;
}

/**
 * The indices behind the table's two aliases; throws if an alias, or an index with such a name, does not belong to this
 * table.
 */
export async function findIndices(
  { client, options }: Engine,
  table: Pick<TableVersion, "id">,
  { alias, nextAlias }: Aliases,
  signal: AbortSignal,
): Promise<FoundIndices> {
  const text = `looking at the index of ${table.id}`;
  const found = await storedIndices(client, [alias, nextAlias], { text, table: table.id }, signal);
  return {
    current: indexBehind(found, alias, table, options),
    next: indexBehind(found, nextAlias, table, options),
  };
}

/** So many indices are named. */
const TOLD_MAX = 5;

/** Throws if it is not the table's, or has a setting that its rows do not survive. */
export function indexBehind(
  found: readonly (readonly [index: string, StoredIndex])[],
  name: string,
  table: Pick<TableVersion, "id">,
  { owner }: Pick<IndexOptions, "owner">,
): FoundIndex | null {
  const entries = found.filter(([index, { aliases }]) => index === name || Object.hasOwn(aliases, name));
  const [index, entry] = entries[0] ?? [];
  if (index === undefined || entry === undefined) return null;
  const { mappings, settings } = entry;
  const mark = mappings._meta?.millrace;
  if (entry.data_stream !== undefined) {
    const what =
      entry.data_stream === name ? "is a data stream" : `is an alias of the data stream ${entry.data_stream}`;
    const hint = "Give the sink another `prefix`, or the data stream another name: Millrace needs indices of its own.";
    throw searchError("MR3106", "fatal", `the alias ${name} for ${table.id} ${what}`, { hint });
  }
  if (entries.length !== 1) {
    const message = `the alias ${name} for ${table.id} leads to ${entries.length} indices`;
    const others = entries.filter(([, { mappings: of }]) => of._meta?.millrace?.daemon === undefined);
    const actions = others.map(([other]) => ({ remove: { index: other, alias: name } }));
    const request = `POST _aliases ${JSON.stringify({ actions: actions.slice(0, TOLD_MAX) })}`;
    const hint = `Take the alias from ${actions.length === 0 ? "all but one" : `the others: ${request}`}, or give the sink another \`prefix\`.`;
    throw searchError("MR3106", "fatal", message, { hint });
  }
  if (index === name || mark?.table === undefined || mark.daemon === undefined) {
    throw searchError("MR3106", "fatal", `the index ${name} for ${table.id} exists and was not made by Millrace`);
  }
  // Index names have no capitals. If two tables share a name, either the caller refuses one, or one is gone and this
  // is its successor.
  if (mark.table.toLowerCase() !== table.id.toLowerCase() || mark.daemon !== owner) {
    const holder = `table ${mark.table} of ${mark.daemon}`;
    throw searchError("MR3106", "fatal", `the index ${name} for ${table.id} holds ${holder}`);
  }
  const unfit = unfitSetting(entry, [name]);
  if (unfit !== null) throw searchError("MR3107", "fatal", `the index ${index} of ${table.id} has ${unfit}`);
  return {
    alias: name,
    index,
    uuid: settings["index.uuid"],
    fields: new Map(Object.entries(mappings.properties ?? {})),
    fieldCountMax: settings["index.mapping.total_fields.limit"],
    note: mark.shape ?? null,
  };
}

/** Creates an index with its alias in one request. */
export async function createIndex(
  engine: Engine,
  table: TableVersion,
  wanted: NewIndex,
  signal: AbortSignal,
): Promise<FoundIndex> {
  const { client, options } = engine;
  const { index, alias } = wanted;
  const create = (hasUnsignedLong: boolean): Promise<Answer> =>
    client.request(
      {
        method: "PUT",
        path: pathOf(index),
        query: { timeout: SHARD_TIMEOUT },
        body: definitionOf(wanted, table, options, hasUnsignedLong),
      },
      signal,
    );
  let answer = await create(true);
  // Some distributions lack the type. The document is the same, but ranges are not available then.
  if (answer.status === 400 && answer.body.includes("[unsigned_long]")) answer = await create(false);
  if (answer.status === 400 && errorOf(answer).type === "resource_already_exists_exception") {
    throw searchError("MR3106", "fatal", `the index ${index} for ${table.id} exists without the alias ${alias}`);
  }
  const full = answer.status === 400 ? tooManyShards(answer.body.toString("utf8"), table.id) : null;
  if (full !== null) throw full;
  const taken = takenName(answer);
  if (taken !== null)
    throw searchError("MR3106", "fatal", `the index ${index} for ${table.id} can't be made: ${taken}`);
  expectOk(answer, `creating the index of ${table.id}`, table.id);
  const { current: made } = await findIndices(engine, table, { alias, nextAlias: alias }, signal);
  invariant(made !== null, "a created index exists");
  const other = fieldOfOtherType(made, table);
  if (other !== null) {
    throw searchError(
      "MR3107",
      "fatal",
      `the field ${other} of ${table.id} is not mapped as the new index ${index} asks for`,
    );
  }
  return made;
}

/** Why an index can't be made under its name; null: for another reason, or it was made. */
export function takenName(answer: Answer): string | null {
  if (answer.status !== 400) return null;
  // The engines have no type of its own for this.
  if (answer.body.includes("creates data streams only"))
    return "a template of the engine makes data streams of such names";
  const { type } = errorOf(answer);
  if (type === "invalid_alias_name_exception") return "its alias is the name of an index or a data stream";
  return type === "invalid_index_name_exception" ? "its name is that of an alias" : null;
}

/** A field that the index has with another type than the table needs; such an index can't take the table. */
export function fieldOfOtherType({ fields }: FoundIndex, table: TableVersion): string | null {
  const other = propertiesOf(table).find(([field, { type }]) => {
    const held = fields.get(field);
    return held !== undefined && !isSameType(held.type ?? "object", type);
  });
  return other?.[0] ?? null;
}

/** What an index lacks to take a table. */
interface Extension {
  readonly missing: Readonly<Record<string, Mapping>>;
  readonly fieldCountMax: number | undefined;
  readonly note: ShapeNote;
}

/** The fields and subfields that are missing, and the shape that is to be noted; null: nothing. */
export function extensionOf(
  { fields, fieldCountMax, note: noted }: FoundIndex,
  table: TableVersion,
  note: ShapeNote,
): Extension | null {
  const missing: Record<string, Mapping> = Object.create(null);
  for (const [field, mapping] of propertiesOf(table)) {
    const held = fields.get(field);
    const lacksForm = Object.keys(mapping.fields ?? {}).some((form) => held?.fields?.[form] === undefined);
    if (held === undefined || lacksForm) missing[field] = mapping;
  }
  if (Object.keys(missing).length === 0 && JSON.stringify(noted) === JSON.stringify(note)) return null;
  const limit = fieldsMaxOf(table) + fields.size * 2;
  return { missing, fieldCountMax: limit > fieldCountMax ? limit : undefined, note };
}

/** Under the index's alias for writing: a request that comes late has no effect. */
export async function extendIndex(
  { client, options }: Engine,
  table: TableVersion,
  { alias, extension: { missing, fieldCountMax, note } }: { readonly alias: string; readonly extension: Extension },
  signal: AbortSignal,
): Promise<void> {
  if (fieldCountMax !== undefined) {
    const body = { "index.mapping.total_fields.limit": fieldCountMax };
    expectOk(
      await client.request({ method: "PUT", path: `${pathOf(alias)}/_settings`, body }, signal),
      `raising the field limit of ${table.id}`,
      table.id,
    );
  }
  const body = Buffer.from(JSON.stringify({ _meta: metaOf(table, options, note), properties: missing }));
  expectEveryNode(
    await client.request({ method: "PUT", path: `${pathOf(alias)}/_mapping`, body }, signal),
    `adding fields to the index of ${table.id}`,
    table.id,
  );
}

function definitionOf(
  { alias, writeAlias, isHidden, note }: NewIndex,
  table: TableVersion,
  options: IndexOptions,
  hasUnsignedLong: boolean,
): Buffer {
  const properties: Record<string, Mapping> = Object.create(null);
  for (const [field, mapping] of propertiesOf(table)) {
    properties[field] = mapping.type === "unsigned_long" && !hasUnsignedLong ? UNSIGNED_LONG_SUBSTITUTE : mapping;
  }
  const definition = {
    aliases: {
      [alias]: { is_write_index: true, ...(isHidden ? { is_hidden: true } : {}) },
      [writeAlias]: { is_write_index: true, is_hidden: true },
    },
    settings: {
      ...(isHidden ? { "index.hidden": true } : {}),
      ...SURE,
      "index.gc_deletes": GC_DELETES,
      "index.refresh_interval": options.refreshInterval,
      "index.mapping.total_fields.limit": Math.max(FIELDS_MAX_DEFAULT, fieldsMaxOf(table)),
      "index.mapping.depth.limit": DEPTH_MAX,
      ...(options.replicas === undefined ? {} : { "index.number_of_replicas": options.replicas }),
      ...(options.shards === undefined ? {} : { "index.number_of_shards": options.shards }),
    },
    mappings: {
      dynamic: false,
      _source: { enabled: true },
      _meta: metaOf(table, options, note),
      properties,
    },
  };
  return Buffer.from(JSON.stringify(definition));
}

function metaOf(table: TableVersion, { owner }: IndexOptions, shape: ShapeNote): object {
  return { millrace: { daemon: owner, table: table.id, shape } };
}

const UNSIGNED_LONG_SUBSTITUTE: Mapping = { type: "keyword" };

function propertiesOf(table: TableVersion): [field: string, mapping: Mapping][] {
  return [
    [VERSION_FIELD, { type: "long" }],
    [TIME_FIELD, { type: "date", format: "strict_date_optional_time_nanos" }],
    ...table.columns.map(({ name, type }): [string, Mapping] => [documentField(name), mappingOf(type)]),
  ];
}

function fieldsMaxOf(table: TableVersion): number {
  // Room for twice the fields: columns come and go, and fields stay.
  return propertiesOf(table).reduce((count, [, mapping]) => count + fieldCountOf(mapping), 0) * 2;
}

function isSameType(held: string, wanted: string): boolean {
  return held === wanted || (wanted === "unsigned_long" && held === UNSIGNED_LONG_SUBSTITUTE.type);
}

/** `table`: see `classifyEngine`. */
export function expectOk(answer: Answer, what: string, table?: string): void {
  if (answer.status >= 300) throw classifyEngine(errorOf(answer), what, table);
}

const HITS = Buffer.from('"hits":');

/**
 * The same for a search, a page of its scroll, or a refresh: they succeed although some shards failed, or took too long. Only
 * the parts `timed_out` and `_shards` are looked at, which come before the hits.
 */
export function expectEveryShard(answer: Answer, what: string, table?: string): void {
  expectOk(answer, what, table);
  const hits = answer.body.indexOf(HITS);
  const head = answer.body.toString("latin1", 0, hits < 0 ? answer.body.length : hits);
  if (!/"failed":0[,}]/.test(head) || /"(timed_out|terminated_early)":true/.test(head))
    throw partError("retryable", what, table);
}

/** The same for a change of indices: some nodes may not know it yet, and write as before. */
export function expectEveryNode(answer: Answer, what: string, table?: string): void {
  expectOk(answer, what, table);
  if (fieldOf(parsed(answer.body), "acknowledged") === true) return;
  throw searchError("MR2001", "retryable", `${what}: some nodes of the cluster have not taken it yet`);
}

/** Makes everything written so far searchable. `table`: see `classifyEngine`. */
export async function refresh(
  client: SearchClient,
  index: string,
  table: string | undefined,
  signal: AbortSignal,
): Promise<void> {
  const answer = await client.request({ method: "POST", path: `${pathOf(index)}/_refresh` }, signal);
  expectEveryShard(answer, "a refresh", table);
}
