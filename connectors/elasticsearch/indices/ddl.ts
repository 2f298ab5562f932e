/** Makes indices and aliases, and changes and drops them. */
import type { CheckedTable, TableName } from "../../../src/core/contracts/connector.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import { invariant } from "../../../src/core/invariant.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type { ShapeNote } from "../../../src/core/targets/base-rows.ts";
import { droppedError, refusedDefinition, overShards, type OverShards, searchError } from "../errors.ts";
import {
  type Answer,
  errorOf,
  expectEveryNode,
  expectOk,
  fieldOf,
  parsed,
  pathOf,
  type SearchClient,
} from "../http.ts";
import { TIME_FIELD, VERSION_FIELD } from "../write/document.ts";
import {
  changedSettings,
  definitionFor,
  type DefinitionNote,
  isSameNote,
  notedProperties,
  propertiesBy,
  redescribed,
} from "./definition.ts";
import {
  type Engine,
  FIELDS_MAX_DEFAULT,
  findIndices,
  type FoundIndex,
  indexBehind,
  type StoredIndices,
  SURE,
  WITHOUT_VECTORS,
} from "./found-index.ts";
import type { IndexIdentity, TableIndex } from "./tables.ts";
import { fieldCountOf, hasSubstitute, holdsType, isTaken, type Mapping, substituted } from "./types.ts";

/** How long the engine remembers the version of a deleted document: longer than a replay takes. */
export const GC_DELETES = "1h";
/** Where it must forget them now. */
export const FORGETS = "0s";
const GC = "index.gc_deletes";
/**
 * How long to wait for an index without its shard; other tables wait too. The engines' default is half a minute or one
 * minute.
 */
export const SHARD_TIMEOUT = "5s";
const LACKING =
  /(?:No handler for type|The mapper type) \[(\w+)\]|unknown setting \[(index\.mapping\.exclude_source_vectors|index\.knn)\]/;
/** JSON that is only stored still counts; the engines' parser stops at this depth. */
const DEPTH_MAX = 1_000;

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
 * Creates an index with its alias in one request; `expectMade` then tells what it is. Returns what it would need if the
 * cluster has no room for it.
 */
export async function createIndex(
  engine: Engine,
  table: TableVersion,
  wanted: NewIndex,
  signal: AbortSignal,
): Promise<OverShards | null> {
  const { client } = engine;
  const { index, alias } = wanted;
  const answer = await withSubstitutes(engine, () => {
    const body = definitionOf(wanted, table, engine);
    return client.request({ method: "PUT", path: pathOf(index), query: { timeout: SHARD_TIMEOUT }, body }, signal);
  });
  if (answer.status === 400 && errorOf(answer).type === "resource_already_exists_exception") {
    // Another daemon's, made at the same moment, is refused with its name.
    const { current } = await findIndices(engine, table, { alias, nextAlias: alias }, signal);
    if (current?.index !== index)
      throw searchError("MR3106", "fatal", `the index ${index} for ${table.id} exists without the alias ${alias}`);
    const message = `the index ${index} for ${table.id} was made meanwhile, by an earlier request of this sink that got no answer`;
    throw searchError("MR2001", "retryable", message);
  }
  const over = answer.status === 400 ? overShards(answer.body.toString("utf8")) : null;
  if (over !== null) return over;
  const taken = takenName(answer);
  if (taken !== null)
    throw searchError("MR3106", "fatal", `the index ${index} for ${table.id} can't be made: ${taken}`);
  // Its own words: they quote the configuration, and no document.
  if (answer.status === 400 && isDefined(engine, table)) throw refusedDefinition(table.id, reasonOf(answer));
  expectOk(answer, `creating the index of ${table.id}`, table.id);
  return null;
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
    const request = { method: "PUT", path: `${pathOf(alias)}/_settings`, body } as const;
    await client.ask(request, `raising the field limit of ${table.id}`, signal, table.id);
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
  const request = { method: "POST", path: "/_aliases", body } as const;
  await client.askEveryNode(request, `giving the index of ${id} its alias`, signal, id);
}

function definitionOf(
  { alias, shared, writeAlias, isHidden, note }: NewIndex,
  table: TableVersion,
  engine: Engine,
): Buffer {
  const { lacking } = engine;
  const properties: Record<string, Mapping> = Object.create(null);
  for (const [field, mapping] of propertiesOf(engine, table)) properties[field] = substituted(mapping, lacking);
  const has = (type: string): boolean => Object.values(properties).some((mapping) => holdsType(mapping, type));
  const [hasVectors, hasGraphs] = [has("dense_vector"), has("knn_vector")];
  const definition = {
    aliases: {
      [alias]: { is_write_index: true, ...(isHidden ? { is_hidden: true } : {}) },
      ...(shared === undefined ? {} : { [shared]: {} }),
      [writeAlias]: { is_write_index: true, is_hidden: true },
    },
    settings: {
      ...(isHidden ? { "index.hidden": true } : {}),
      ...SURE,
      [GC]: GC_DELETES,
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
  const added = propertiesOf(engine, table).find(
    ([field, mapping]) => holdsType(mapping, "dense_vector") && !fields.has(field),
  );
  return added?.[0] ?? null;
}

/**
 * The settings of the configuration that have changed since the index was made, and the time of `remembersDeleted` that ended
 * before it set it back; null: one is not set any more.
 */
export function settingsChange(engine: Engine, found: FoundIndex, table: TableName): Readonly<Record<string, unknown>> {
  const changed = changedSettings(found.definition, settingsFor(engine, table));
  return found.settings[GC] === FORGETS ? { ...changed, [GC]: GC_DELETES } : changed;
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
  const request = { method: "PUT", path: `${pathOf(alias)}/_mapping`, body } as const;
  await client.askEveryNode(request, `noting settings of the index of ${table.id}`, signal, table.id);
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
  await client.ask({ method: "DELETE", path }, "dropping an index that was made to ask", signal);
  return null;
}

/** The engine's sentence on a refused definition. */
export function reasonOf(answer: Answer): string {
  const cause = fieldOf(fieldOf(parsed(answer.body), "error"), "caused_by");
  const reason = fieldOf(cause, "reason") ?? fieldOf(fieldOf(parsed(answer.body), "error"), "reason");
  return String(reason).slice(0, REASON_CHARACTERS_MAX);
}

const REASON_CHARACTERS_MAX = 500;

export async function dropIndex(
  client: SearchClient,
  { index }: Pick<IndexIdentity, "index">,
  signal: AbortSignal,
): Promise<void> {
  const answer = await client.request({ method: "DELETE", path: pathOf(index) }, signal);
  if (answer.status !== 404) expectEveryNode(answer, "dropping an index that is not needed any more");
}

/**
 * Moves the table's alias to the next index and drops the old one in one request. Invariant: until then the old one
 * exists. Idempotent, because the answer may be lost, or the process may end before the move is recorded.
 */
export async function moveAlias(
  engine: Engine,
  table: Pick<TableVersion, "id">,
  { alias, uuid, next, shared }: TableIndex & { readonly next: IndexIdentity },
  signal: AbortSignal,
): Promise<TableIndex> {
  const { client } = engine;
  const found = await findIndices(engine, table, { alias, nextAlias: next.alias }, signal);
  if (found.current?.uuid !== next.uuid) {
    if (found.next?.uuid !== next.uuid) throw droppedError(next.alias);
    if (found.current !== null && found.current.uuid !== uuid) throw droppedError(alias);
    // Readers must find the rows at once.
    await client.refresh(next.index, table.id, signal);
    const actions = [
      ...(found.current === null ? [] : [{ remove_index: { index: found.current.index } }]),
      { add: { index: next.index, alias, is_write_index: true } },
      ...(shared === undefined ? [] : [{ add: { index: next.index, alias: shared } }]),
      { remove: { index: next.index, alias: next.alias } },
    ];
    const request = { method: "POST", path: "/_aliases", body: { actions } } as const;
    await client.askEveryNode(request, `moving the alias of ${table.id}`, signal, table.id);
    failpoint("elasticsearch.alias-moved", table);
  }
  const body = { "index.hidden": null };
  const request = { method: "PUT", path: `${pathOf(next.index)}/_settings`, body } as const;
  await client.askEveryNode(request, `showing the index of ${table.id}`, signal, table.id);
  return { ...next, alias, shared };
}
