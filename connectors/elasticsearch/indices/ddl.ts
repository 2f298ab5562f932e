import * as z from "zod";
import type { ShapeNote } from "../../../src/core/targets/base-floors.ts";
import { invariant } from "../../../src/core/invariant.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { TIME_FIELD, VERSION_FIELD } from "../write/document.ts";
import { STORED_SHAPE } from "../../kit/stored-shape.ts";
import { classifyEngine, partError, refusedDefinition, searchError, tooManyShards } from "../errors.ts";
import { type Answer, errorOf, fieldOf, parsed, pathOf, type SearchClient } from "../http.ts";
import type { IndexIdentity } from "./tables.ts";
import type { CheckedTable, TableName } from "../../../src/core/contracts/connector.ts";
import {
  changedSettings,
  definitionFor,
  type DefinitionNote,
  type IndexParts,
  isSameNote,
  notedProperties,
  PAGE_MAX,
  propertiesBy,
  redescribed,
} from "./definition.ts";
import { fieldCountOf, hasSubstitute, isTaken, type Mapping, substituted } from "./types.ts";

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
/** Whether vectors are left out of the stored document, as engines that know it do by default. */
const WITHOUT_VECTORS = "index.mapping.exclude_source_vectors";
const LACKING =
  /(?:No handler for type|The mapper type) \[(\w+)\]|unknown setting \[(index\.mapping\.exclude_source_vectors|index\.knn)\]/;
const FIELDS_MAX_DEFAULT = 1_000;
/** JSON that is only stored still counts; the engines' parser stops at this depth. */
const DEPTH_MAX = 1_000;

export interface IndexOptions {
  /** Whose indices they are: written into each. */
  readonly owner: string;
  readonly replicas: number | undefined;
  readonly shards: number | undefined;
  readonly refreshInterval: string;
  readonly parts: IndexParts;
}

const FIELD = z.looseObject({ type: z.string().optional(), fields: z.record(z.string(), z.unknown()).optional() });
const MARK = z.object({
  daemon: z.string().optional(),
  table: z.string().optional(),
  shape: STORED_SHAPE.optional(),
  definition: z
    .object({
      settings: z.record(z.string(), z.unknown()),
      properties: z.record(z.string(), z.record(z.string(), z.unknown())),
    })
    .optional(),
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

type StoredIndex = z.output<typeof INDEX>;
export type StoredIndices = readonly (readonly [index: string, StoredIndex])[];

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
): Promise<StoredIndices> {
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
  [WITHOUT_VECTORS, (value) => value === "false"],
  ["index.max_result_window", (value) => Number(value) >= PAGE_MAX],
];
const NARROWING = new Set(["filter", "routing", "index_routing", "search_routing"]);

export interface FoundIndex extends IndexIdentity {
  readonly aliases: readonly string[];
  readonly fields: ReadonlyMap<string, z.output<typeof FIELD>>;
  readonly fieldCountMax: number;
  /** Null in an index that an older Millrace created. */
  readonly note: ShapeNote | null;
  /** What the configuration said when it was made, or its settings were set. */
  readonly definition: DefinitionNote;
  readonly settings: Readonly<Record<string, unknown>>;
}

interface FoundIndices {
  /** The index behind the table's alias. */
  readonly current: FoundIndex | null;
  /** The index behind the alias for filling. */
  readonly next: FoundIndex | null;
}

/** Where indices are, and how they are made. */
export interface Engine {
  readonly client: SearchClient;
  readonly options: IndexOptions;
  /** Types of fields, and settings, that it is known to lack. */
  readonly lacking: Set<string>;
}

interface Aliases {
  readonly alias: string;
  readonly nextAlias: string;
}

/** An index to be made. `isHidden`: wildcards don't find it. */
export interface NewIndex {
  readonly index: string;
  readonly alias: string;
  /** See TableIndex; also absent until the index is visible. */
  readonly shared?: string | undefined;
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
  aliases: Aliases,
  signal: AbortSignal,
): Promise<FoundIndices> {
  const text = `looking at the index of ${table.id}`;
  const names = [aliases.alias, aliases.nextAlias];
  return foundIndices(await storedIndices(client, names, { text, table: table.id }, signal), table, aliases, options);
}

/** The same, of what is found under the names of several tables. */
export function foundIndices(
  found: StoredIndices,
  table: Pick<TableVersion, "id">,
  { alias, nextAlias }: Aliases,
  options: IndexOptions,
): FoundIndices {
  return {
    current: indexBehind(found, alias, table, options),
    next: indexBehind(found, nextAlias, table, options),
  };
}

/** So many indices are named. */
const TOLD_MAX = 5;

/** Throws if it is not the table's, or has a setting that its rows do not survive. */
export function indexBehind(
  found: StoredIndices,
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
    aliases: Object.keys(entry.aliases),
    fields: new Map(Object.entries(mappings.properties ?? {})),
    fieldCountMax: settings["index.mapping.total_fields.limit"],
    note: mark.shape ?? null,
    definition: mark.definition ?? { settings: {}, properties: {} },
    settings,
  };
}

/** Creates an index with its alias in one request; `expectMade` then tells what it is. */
export async function createIndex(
  engine: Engine,
  table: TableVersion,
  wanted: NewIndex,
  signal: AbortSignal,
): Promise<void> {
  const { client } = engine;
  const { index, alias } = wanted;
  const answer = await withSubstitutes(engine, () => {
    const body = definitionOf(wanted, table, engine);
    return client.request({ method: "PUT", path: pathOf(index), query: { timeout: SHARD_TIMEOUT }, body }, signal);
  });
  if (answer.status === 400 && errorOf(answer).type === "resource_already_exists_exception") {
    // Another daemon's, made at the same moment, is refused with its name.
    await findIndices(engine, table, { alias, nextAlias: alias }, signal);
    throw searchError("MR3106", "fatal", `the index ${index} for ${table.id} exists without the alias ${alias}`);
  }
  const full = answer.status === 400 ? tooManyShards(answer.body.toString("utf8"), table.id) : null;
  if (full !== null) throw full;
  const taken = takenName(answer);
  if (taken !== null)
    throw searchError("MR3106", "fatal", `the index ${index} for ${table.id} can't be made: ${taken}`);
  // Its own words: they quote the configuration, and no document.
  if (answer.status === 400 && isDefined(engine, table)) throw refusedDefinition(table.id, reasonOf(answer));
  expectOk(answer, `creating the index of ${table.id}`, table.id);
}

/** Of an index that was created now: templates of the engine have a say in what it is. */
export function expectMade(
  engine: Engine,
  table: TableVersion,
  { index, alias }: NewIndex,
  found: StoredIndices,
): FoundIndex {
  const made = indexBehind(found, alias, table, engine.options);
  invariant(made !== null, "a created index exists");
  const other = fieldOfOtherType(engine, made, table);
  if (other !== null) {
    throw searchError(
      "MR3107",
      "fatal",
      `the field ${other} of ${table.id} is not mapped as the new index ${index} asks for`,
    );
  }
  return made;
}

/** Some engines lack a type or a setting; they say so, and get what takes its place. */
async function withSubstitutes({ lacking }: Engine, ask: () => Promise<Answer>): Promise<Answer> {
  for (;;) {
    const known = new Set(lacking);
    const answer = await ask();
    if (answer.status !== 400) return answer;
    const [, type, setting] = LACKING.exec(answer.body.toString("utf8")) ?? [];
    // The plugin brings the setting and the type.
    const lacks = type !== undefined && hasSubstitute(type) ? type : setting === "index.knn" ? "knn_vector" : setting;
    if (lacks === undefined || known.has(lacks)) return answer;
    lacking.add(lacks);
  }
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
function fieldOfOtherType(engine: Engine, { fields }: FoundIndex, table: TableVersion): string | null {
  const other = propertiesOf(engine, table).find(([field, mapping]) => {
    const held = fields.get(field);
    return held !== undefined && !isTaken(held, mapping);
  });
  return other?.[0] ?? null;
}

/** What an index lacks to take a table. */
export interface Extension {
  readonly missing: Readonly<Record<string, Mapping>>;
  readonly fieldCountMax: number | undefined;
  readonly note: ShapeNote;
}

/** The fields and subfields that are missing, and the shape that is to be noted; null: nothing. */
export function extensionOf(
  engine: Engine,
  { fields, fieldCountMax, note: noted, definition }: FoundIndex,
  table: TableVersion,
  note: ShapeNote,
): Extension | null {
  const missing: Record<string, Mapping> = Object.create(null);
  for (const [field, mapping] of propertiesOf(engine, table)) {
    const held = fields.get(field);
    const lacksForm = Object.keys(mapping.fields ?? {}).some((form) => held?.fields?.[form] === undefined);
    if (held === undefined || lacksForm) missing[field] = mapping;
  }
  const wanted = notedBy(engine, table);
  const isNoted = JSON.stringify(noted) === JSON.stringify(note) && isSameNote(definition, wanted);
  if (Object.keys(missing).length === 0 && isNoted) return null;
  const limit = fieldsMaxOf(engine, table) + fields.size * 2;
  return { missing, fieldCountMax: limit > fieldCountMax ? limit : undefined, note };
}

/** Under the index's alias for writing: a request that comes late has no effect. */
export async function extendIndex(
  engine: Engine,
  table: TableVersion,
  { alias, extension: { missing, fieldCountMax, note } }: { readonly alias: string; readonly extension: Extension },
  signal: AbortSignal,
): Promise<void> {
  const { client, lacking } = engine;
  if (fieldCountMax !== undefined) {
    const body = { "index.mapping.total_fields.limit": fieldCountMax };
    expectOk(
      await client.request({ method: "PUT", path: `${pathOf(alias)}/_settings`, body }, signal),
      `raising the field limit of ${table.id}`,
      table.id,
    );
  }
  const answer = await withSubstitutes(engine, () => {
    const properties = Object.fromEntries(
      Object.entries(missing).map(([field, mapping]) => [field, substituted(mapping, lacking)]),
    );
    const body = Buffer.from(JSON.stringify({ _meta: metaOf(engine, table, note), properties }));
    return client.request({ method: "PUT", path: `${pathOf(alias)}/_mapping`, body }, signal);
  });
  expectEveryNode(answer, `adding fields to the index of ${table.id}`, table.id);
}

/** Where somebody took the shared alias from the visible index, readers find its documents again. */
export async function shareIndex(
  { client }: Engine,
  { id }: Pick<TableVersion, "id">,
  { index, aliases }: FoundIndex,
  shared: string,
  signal: AbortSignal,
): Promise<void> {
  if (aliases.includes(shared)) return;
  const body = { actions: [{ add: { index, alias: shared } }] };
  const answer = await client.request({ method: "POST", path: "/_aliases", body }, signal);
  expectEveryNode(answer, `giving the index of ${id} its alias`, id);
}

function definitionOf(
  { alias, shared, writeAlias, isHidden, note }: NewIndex,
  table: TableVersion,
  engine: Engine,
): Buffer {
  const { lacking } = engine;
  const properties: Record<string, Mapping> = Object.create(null);
  for (const [field, mapping] of propertiesOf(engine, table)) properties[field] = substituted(mapping, lacking);
  const hasVectors = Object.values(properties).some(({ type }) => type === "dense_vector");
  const hasGraphs = Object.values(properties).some(({ type }) => type === "knn_vector");
  const definition = {
    aliases: {
      [alias]: { is_write_index: true, ...(isHidden ? { is_hidden: true } : {}) },
      ...(shared === undefined ? {} : { [shared]: {} }),
      [writeAlias]: { is_write_index: true, is_hidden: true },
    },
    settings: {
      ...(isHidden ? { "index.hidden": true } : {}),
      ...SURE,
      "index.gc_deletes": GC_DELETES,
      "index.mapping.total_fields.limit": Math.max(FIELDS_MAX_DEFAULT, fieldsMaxOf(engine, table)),
      "index.mapping.depth.limit": DEPTH_MAX,
      ...(!hasVectors || lacking.has(WITHOUT_VECTORS) ? {} : { [WITHOUT_VECTORS]: false }),
      ...(hasGraphs ? { "index.knn": true } : {}),
      ...settingsFor(engine, table),
    },
    mappings: {
      dynamic: false,
      _source: { enabled: true },
      _meta: metaOf(engine, table, note),
      properties,
    },
  };
  return Buffer.from(JSON.stringify(definition));
}

function metaOf(engine: Engine, table: TableVersion, shape: ShapeNote): object {
  const { owner } = engine.options;
  return { millrace: { daemon: owner, table: table.id, shape, definition: notedBy(engine, table) } };
}

/** What is noted of the definition of a table's index. */
function notedBy(engine: Engine, table: TableVersion): DefinitionNote {
  const properties = notedProperties(definitionFor(engine.options.parts, table), table);
  return { settings: settingsFor(engine, table), properties };
}

/** The settings that the configuration asks for. */
function settingsFor({ options }: Pick<Engine, "options">, table: TableName): Readonly<Record<string, unknown>> {
  const { replicas, shards, refreshInterval, parts } = options;
  return {
    "index.refresh_interval": refreshInterval,
    ...(replicas === undefined ? {} : { "index.number_of_replicas": replicas }),
    ...(shards === undefined ? {} : { "index.number_of_shards": shards }),
    ...definitionFor(parts, table).settings,
  };
}

export function isDefined({ options }: Engine, table: TableName): boolean {
  const { settings, properties } = definitionFor(options.parts, table);
  return Object.keys(settings).length + Object.keys(properties).length > 0;
}

/** The field that the index has in a form that the table, or the configuration, does not want any more; null: it may stay. */
export function outdatedField(engine: Engine, found: FoundIndex, table: TableVersion): string | null {
  const properties = notedProperties(definitionFor(engine.options.parts, table), table);
  return (
    fieldOfOtherType(engine, found, table) ??
    redescribed(found.definition, properties, found.fields) ??
    firstVector(engine, found, table)
  );
}

/** A field of vectors for an index that was made without any: it lacks the settings that they need. */
function firstVector(engine: Engine, { fields, settings }: FoundIndex, table: TableVersion): string | null {
  if (settings[WITHOUT_VECTORS] !== undefined || settings["index.knn"] !== undefined) return null;
  const added = propertiesOf(engine, table).find(([field, { type }]) => type === "dense_vector" && !fields.has(field));
  return added?.[0] ?? null;
}

/** The settings of the configuration that have changed since the index was made; null: one is not set any more. */
export function settingsChange(engine: Engine, found: FoundIndex, table: TableName): Readonly<Record<string, unknown>> {
  return changedSettings(found.definition, settingsFor(engine, table));
}

/**
 * Sets them where the engine can do that in a living index; false: it can't. Under the index's alias for writing, as
 * `extendIndex`. What was changed by hand stays.
 */
export async function changeSettings(
  engine: Engine,
  found: FoundIndex,
  { table, alias, changed }: { readonly table: TableVersion; readonly alias: string; readonly changed: object },
  signal: AbortSignal,
): Promise<boolean> {
  const { client, options } = engine;
  const answer = await client.request({ method: "PUT", path: `${pathOf(alias)}/_settings`, body: changed }, signal);
  if (answer.status === 400) return false;
  expectEveryNode(answer, `changing settings of the index of ${table.id}`, table.id);
  const definition = { ...found.definition, settings: settingsFor(engine, table) };
  const mark = { daemon: options.owner, table: table.id, shape: found.note ?? undefined, definition };
  const body = { _meta: { millrace: mark } };
  const noted = await client.request({ method: "PUT", path: `${pathOf(alias)}/_mapping`, body }, signal);
  expectEveryNode(noted, `noting settings of the index of ${table.id}`, table.id);
  return true;
}

function propertiesOf({ options }: Pick<Engine, "options">, table: TableVersion): [field: string, mapping: Mapping][] {
  return [
    [VERSION_FIELD, { type: "long" }],
    [TIME_FIELD, { type: "date", format: "strict_date_optional_time_nanos" }],
    ...propertiesBy(definitionFor(options.parts, table), table).map(([field, mapping]): [string, Mapping] => [
      field,
      mapping,
    ]),
  ];
}

function fieldsMaxOf(engine: Engine, table: TableVersion): number {
  // Room for twice the fields: columns come and go, and fields stay.
  return propertiesOf(engine, table).reduce((count, [, mapping]) => count + fieldCountOf(mapping), 0) * 2;
}

/** The body of an index that is made to ask the engine about a definition. */
export function trialDefinition(engine: Engine, table: CheckedTable): string {
  const { options, lacking } = engine;
  const definition = definitionFor(options.parts, table);
  const columns = table.columns ?? [];
  const properties = Object.fromEntries(
    table.columns === undefined
      ? Object.entries(definition.properties).map(([name, part]) => [name, { type: "object", ...part }])
      : propertiesBy(definition, { columns }).map(([field, mapping]) => [field, substituted(mapping, lacking)]),
  );
  const settings = {
    "index.mapping.total_fields.limit": Math.max(
      FIELDS_MAX_DEFAULT,
      Object.keys(properties).length * TRIAL_FIELDS_EACH,
    ),
    ...settingsFor(engine, table),
    ...SURE,
    "index.hidden": true,
    "index.number_of_replicas": 0,
  };
  return JSON.stringify({ settings, mappings: { dynamic: false, properties } });
}

const TRIAL_FIELDS_EACH = 10;

/** Makes such an index under this name, and drops it. Returns why the engine refuses it; null: it takes it. */
export async function tryDefinition(
  engine: Engine,
  table: CheckedTable,
  index: string,
  signal: AbortSignal,
): Promise<string | null> {
  const { client } = engine;
  const path = pathOf(index);
  const answer = await withSubstitutes(engine, () => {
    const body = Buffer.from(trialDefinition(engine, table));
    return client.request(
      { method: "PUT", path, query: { timeout: SHARD_TIMEOUT, wait_for_active_shards: "0" }, body },
      signal,
    );
  });
  if (answer.status === 400) return reasonOf(answer);
  expectOk(answer, `asking about the index of ${table.schema}.${table.table}`);
  expectOk(await client.request({ method: "DELETE", path }, signal), "dropping an index that was made to ask");
  return null;
}

/** The engine's sentence on a refused definition. */
export function reasonOf(answer: Answer): string {
  const cause = fieldOf(fieldOf(parsed(answer.body), "error"), "caused_by");
  const reason = fieldOf(cause, "reason") ?? fieldOf(fieldOf(parsed(answer.body), "error"), "reason");
  return String(reason).slice(0, REASON_CHARACTERS_MAX);
}

const REASON_CHARACTERS_MAX = 500;

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
  index: string | readonly string[],
  table: string | undefined,
  signal: AbortSignal,
): Promise<void> {
  const answer = await client.request({ method: "POST", path: `${pathOf(index)}/_refresh` }, signal);
  expectEveryShard(answer, "a refresh", table);
}
