/** The indices behind a table's aliases, as they are: whose they are, and whether rows survive there. */
import * as z from "zod";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { SHAPE_NOTE, type ShapeNote } from "../../../src/core/targets/base-rows.ts";
import type { MillraceError } from "../../../src/core/errors.ts";
import { sharesAlias } from "../../../src/core/targets/names.ts";
import { SHARING_HINT, sharingText } from "../../../src/core/targets/sharing.ts";
import { searchError } from "../errors.ts";
import { expectOk, formOf, pathOf, type SearchClient } from "../http.ts";
import { type DefinitionNote, type IndexParts, PAGE_MAX } from "./definition.ts";
import type { IndexIdentity } from "./tables.ts";

/** What a template of the engine could set otherwise. */
export const SURE = {
  "index.default_pipeline": "_none",
  "index.final_pipeline": "_none",
  "index.translog.durability": "request",
};
/** Whether vectors are left out of the stored document, as engines that know it do by default. */
export const WITHOUT_VECTORS = "index.mapping.exclude_source_vectors";
export const FIELDS_MAX_DEFAULT = 1_000;

export interface IndexOptions {
  /** Whose indices they are: written into each. */
  readonly owner: string;
  readonly replicas: number | undefined;
  readonly shards: number | undefined;
  readonly refreshInterval: string;
  readonly parts: IndexParts;
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

const FIELD = z.looseObject({ type: z.string().optional(), fields: z.record(z.string(), z.unknown()).optional() });
const MARK = z.object({
  daemon: z.string().optional(),
  table: z.string().optional(),
  shape: SHAPE_NOTE.optional(),
  definition: z
    .object({
      settings: z.record(z.string(), z.unknown()),
      properties: z.record(z.string(), z.record(z.string(), z.unknown())),
    })
    .optional(),
  checkpoint: z.boolean().optional(),
});
const IDENTITY = { "index.uuid": z.string(), "index.history.uuid": z.string().optional() };
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
    ...IDENTITY,
    "index.mapping.total_fields.limit": z.coerce.number().default(FIELDS_MAX_DEFAULT),
  }),
  /** Whose part it is. */
  data_stream: z.string().optional(),
});
const INDICES = z.record(z.string(), INDEX);
export const IDENTITIES = z.record(z.string(), z.object({ settings: z.object(IDENTITY) }));

type StoredIndex = z.output<typeof INDEX>;
export type StoredIndices = readonly (readonly [index: string, StoredIndex])[];

/** An index that is restored over its closed self keeps its UUID, and gets another history. */
export function uuidIn(settings: z.output<typeof IDENTITIES>[string]["settings"]): string {
  const { "index.uuid": uuid, "index.history.uuid": history } = settings;
  return history === undefined ? uuid : `${uuid}/${history}`;
}

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
  const found = Object.entries(formOf(INDICES, answer, text));
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

const ALIASES = z.record(z.string(), z.object({ aliases: z.record(z.string(), z.unknown()) }));

/**
 * Throws where the name, which the route of this table shares with others, is one table's alone: its alias would lead to both.
 * The reverse is what `indexBehind` finds.
 */
export async function expectShared(
  client: SearchClient,
  name: string,
  table: Pick<TableVersion, "id">,
  signal: AbortSignal,
): Promise<void> {
  // Those of the tables that share it have a percent sign in the hyphen's place.
  const path = pathOf(`${name}-*`, "_alias", name);
  const text = `looking for an index of ${name}`;
  const answer = await client.request({ method: "GET", path }, signal);
  if (answer.status === 404) return;
  expectOk(answer, text, table.id);
  if (Object.keys(formOf(ALIASES, answer, text)).length > 0) throw ofOtherSharing(name, { isShared: false }, table);
}

function ofOtherSharing(
  name: string,
  { isShared }: { readonly isShared: boolean },
  { id }: Pick<TableVersion, "id">,
): MillraceError {
  const message = sharingText(`the alias ${name} for ${id}`, isShared);
  return searchError("MR3106", "fatal", message, { hint: SHARING_HINT });
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
  if (entries.some(([, { aliases }]) => sharesAlias(aliases, name)))
    throw ofOtherSharing(name, { isShared: true }, table);
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
    uuid: uuidIn(settings),
    aliases: Object.keys(entry.aliases),
    fields: new Map(Object.entries(mappings.properties ?? {})),
    fieldCountMax: settings["index.mapping.total_fields.limit"],
    note: mark.shape ?? null,
    definition: mark.definition ?? { settings: {}, properties: {} },
    settings,
  };
}
