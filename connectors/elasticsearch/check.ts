import * as z from "zod";
import { randomUUID } from "node:crypto";
import type { CheckedTable, Finding, GrantScript } from "../../src/core/contracts/connector.ts";
import { findMillraceError } from "../../src/core/errors.ts";
import { tableId } from "../../src/core/model/schema.ts";
import { indexOf, type IndexNaming, ownIndexOf } from "../../src/core/targets/names.ts";
import { classifyConnection, classifyEngine, searchError } from "./errors.ts";
import { errorOf, fieldOf, parsed, pathOf, SearchClient, serversOf } from "./http.ts";
import { isDefined, trialDefinition, tryDefinition } from "./indices/ddl.ts";
import { expectShared, indexBehind, storedIndices, WITHOUT_FIELDS } from "./indices/found-index.ts";
import { conflictsOf, definitionFor, driftedSettings } from "./indices/definition.ts";
import { fits, selectedName } from "../../src/core/table-selection.ts";
import { indexAfter } from "./indices/tables.ts";
import { chunksByLength } from "./indices/presence.ts";
import { checkpointIndex, expectCheckpointIndex } from "./checkpoint.ts";
import { ok, warning, wrong } from "../kit/findings.ts";
import { shellWord } from "../../src/core/shell-word.ts";
import { expectAlone } from "./one-cluster.ts";
import type { ElasticsearchSinkSettings } from "./sink.ts";
import { expectUsable, majorOf, versionOf } from "./version.ts";

const ELASTICSEARCH_MAJOR_MIN = 8;
/** Time for four answers that cost the engine nothing. */
const ANSWERS_MS_MAX = 10_000;

type CheckSettings = ElasticsearchSinkSettings;
/** One command checks all sinks. */
const CHECKED = new Map<string, CheckSettings>();

/** Preflight: connects, and writes nothing but an index of its own, which it makes and drops to ask the engine about settings. */
export async function check(
  settings: CheckSettings,
  until: AbortSignal,
  {
    tables = [],
    withinMs = ANSWERS_MS_MAX,
  }: { readonly tables?: readonly CheckedTable[] | undefined; readonly withinMs?: number } = {},
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  const silent = AbortSignal.timeout(withinMs);
  const signal = AbortSignal.any([until, silent]);
  try {
    await using client = await SearchClient.open(settings, signal);
    findings.push(await checkProduct(client, signal));
    findings.push(await checkHealth(client, signal));
    findings.push(await checkAccess(client, settings.prefix, signal));
    findings.push(await checkTasks(client, signal));
    await expectAlone(client, CHECKED, settings, signal);
    const indices = await checkIndices(client, settings, tables, signal);
    findings.push(...indices.findings);
    findings.push(...(await checkShards(client, settings, tables, signal)));
    findings.push(...(await checkTemplates(client, settings, tables, signal)));
    findings.push(...(await checkDefinitions(client, settings, tables, indices.drift, signal)));
  } catch (error) {
    const known = silent.aborted
      ? searchError(
          "MR2001",
          "retryable",
          `the search engine at ${serversOf(settings.urls)} did not answer for ${withinMs / 1000} s`,
        )
      : classifyConnection(error, signal, serversOf(settings.urls));
    const { message, hint } = known;
    findings.push({ id: "elasticsearch.connect", level: "error", what: message, fix: hint ?? null, error: known });
  }
  return findings;
}

async function checkProduct(client: SearchClient, signal: AbortSignal): Promise<Finding> {
  const version = await versionOf(client, signal);
  if (version === null) return ok("elasticsearch.connect", "connected; the server does not tell its version");
  expectUsable(version);
  const { product, number } = version;
  if (majorOf(version) >= ELASTICSEARCH_MAJOR_MIN || product === "OpenSearch")
    return ok("elasticsearch.connect", `connected to ${product} ${number}`);
  return warning(
    "elasticsearch.connect",
    `${product} ${number} is older than what Millrace is tested with`,
    `use ${product} ${ELASTICSEARCH_MAJOR_MIN} or newer`,
  );
}

async function checkHealth(client: SearchClient, signal: AbortSignal): Promise<Finding> {
  const answer = await client.look({ method: "GET", path: "/_cluster/health" }, signal);
  const status = answer.status === 200 ? fieldOf(parsed(answer.body), "status") : undefined;
  if (status !== "red") {
    return ok("elasticsearch.health", `cluster health is ${typeof status === "string" ? status : "unknown"}`);
  }
  return warning(
    "elasticsearch.health",
    "cluster health is red: some shards can't be written",
    "GET _cluster/allocation/explain says why",
  );
}

/** The fence asks for running tasks (WriteFence). */
async function checkTasks(client: SearchClient, signal: AbortSignal): Promise<Finding> {
  const query = { actions: "indices:data/write/bulk", group_by: "none" };
  const { status } = await client.look({ method: "GET", path: "/_tasks", query }, signal);
  const id = "elasticsearch.tasks";
  if (status === 200) return ok(id, "the sink can see whether its own requests still run");
  return wrong(
    id,
    `the engine does not show running tasks (GET /_tasks: ${status}), so the sink can't know whether requests that it gave up still run`,
    "grant the cluster privilege monitor (OpenSearch: cluster_monitor)",
  );
}

/** Makes the sink's first requests. */
async function checkAccess(client: SearchClient, prefix: string, signal: AbortSignal): Promise<Finding> {
  const path = pathOf(checkpointIndex(prefix));
  const answer = await client.request({ method: "GET", path }, signal);
  if (answer.status === 401 || answer.status === 403)
    throw classifyEngine(errorOf(answer), "looking at the sink's indices");
  return ok("elasticsearch.access", "the sink's indices may be read");
}

/** As many as are told one by one. */
const TOLD_MAX = 10;

interface CheckedIndices {
  /** What the sink would refuse. */
  readonly findings: readonly Finding[];
  /** Settings that somebody changed in an index; Millrace leaves them, until the next index is made. */
  readonly drift: readonly Finding[];
}

async function checkIndices(
  client: SearchClient,
  { owner, ...naming }: IndexNaming & { readonly owner: string },
  tables: readonly CheckedTable[],
  signal: AbortSignal,
): Promise<CheckedIndices> {
  const id = "elasticsearch.indices";
  const findings: Finding[] = [];
  const drift: Finding[] = [];
  const refused = (error: unknown): void => {
    const known = findMillraceError(error);
    if (known?.kind !== "fatal") throw error;
    findings.push(wrong(id, `${known.code}: ${known.message}`, known.hint ?? null));
  };
  await expectCheckpointIndex(client, checkpointIndex(naming.prefix), signal).catch(refused);
  const text = "looking at the sink's indices";
  const named = tables.map((table) => ({
    id: table.id ?? tableId(table.schema, table.table),
    alias: ownIndexOf(naming, table),
    shared: table.scope === undefined ? undefined : indexOf(naming, table),
  }));
  const managed: string[] = [];
  for (const chunk of chunksByLength(named, ({ alias }) => alias)) {
    const names = chunk.map(({ alias }) => alias);
    const found = await storedIndices(client, names, { text, parts: WITHOUT_FIELDS }, signal);
    for (const table of chunk) {
      try {
        const index = indexBehind(found, table.alias, table, { owner });
        const { shared } = table;
        if (shared !== undefined && index?.aliases.includes(shared) !== true)
          await expectShared(client, shared, table, signal);
        const drifted = index === null ? [] : driftedSettings(index.definition, index.settings);
        if (drifted.length > 0) drift.push(driftOf(table.id, drifted));
      } catch (error) {
        refused(error);
      }
    }
    managed.push(...found.flatMap(([index, { settings }]) => (isManaged(settings) ? [index] : [])));
  }
  if (managed.length > 0) {
    findings.push(
      warning(
        "elasticsearch.lifecycle",
        `a lifecycle policy acts on ${managed.slice(0, TOLD_MAX).join(", ")}${managed.length > TOLD_MAX ? " …" : ""}: an index that it deletes or replaces is filled again`,
        'PUT <index>/_settings {"index.lifecycle.name": null}, or POST _plugins/_ism/remove/<index>',
      ),
    );
  }
  if (findings.length === 0)
    findings.push(ok(id, "the indices that exist are the sink's own, and keep what it writes"));
  return { findings: findings.slice(0, TOLD_MAX), drift };
}

function driftOf(table: string, drifted: readonly string[]): Finding {
  return warning(
    "elasticsearch.drift",
    `settings of the index of ${table} were changed by hand: ${drifted.join("; ")}`,
    "set them in the sink's `index` too, or back in the index; the next index that Millrace makes has what the configuration says",
  );
}

/** Whether the cluster takes the indices of all tables. */
async function checkShards(
  client: SearchClient,
  { shards = 1, replicas = 1, ...naming }: CheckSettings,
  tables: readonly CheckedTable[],
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const query = { include_defaults: "true", flat_settings: "true", filter_path: "*.*max_shards_per_node" };
  const settings = await client.look({ method: "GET", path: "/_cluster/settings", query }, signal);
  const health = await client.look({ method: "GET", path: "/_cluster/health" }, signal);
  const found = SHARDS.safeParse({ ...Object(parsed(settings.body)), health: parsed(health.body) });
  if (!found.success) return [];
  const { transient, persistent, defaults, health: cluster } = found.data;
  const perNode = transient[SHARDS_MAX] ?? persistent[SHARDS_MAX] ?? defaults[SHARDS_MAX];
  if (perNode === undefined) return [];
  const open = cluster.active_shards + cluster.unassigned_shards + cluster.initializing_shards;
  let missing = 0;
  const names = tables.map((table) => ownIndexOf(naming, table));
  for (const chunk of chunksByLength(names, (name) => name)) {
    const there = await storedIndices(
      client,
      chunk,
      { text: "counting indices", parts: "*.aliases,*.settings" },
      signal,
    );
    const aliases = new Set(there.flatMap(([, index]) => Object.keys(index.aliases)));
    missing += chunk.filter((name) => !aliases.has(name)).length;
  }
  const own = await client.request({ method: "GET", path: pathOf(checkpointIndex(naming.prefix)) }, signal);
  // That of the checkpoints has one shard, whatever the tables' have.
  const needed = open + (missing * shards + (own.status === 404 ? 1 : 0)) * (1 + replicas);
  if (needed <= perNode * cluster.number_of_data_nodes) return [];
  return [
    warning(
      "elasticsearch.shards",
      `${missing} tables without an index, and what the sink keeps itself, need ${needed - open} shards more than the ${open} that there are; ${SHARDS_MAX} allows ${perNode} on each of ${cluster.number_of_data_nodes} data nodes, and the last tables would wait (MR2006)`,
      `PUT _cluster/settings {"persistent": {"${SHARDS_MAX}": ${Math.ceil(needed / cluster.number_of_data_nodes)}}}, or fewer \`replicas\` and \`shards\``,
    ),
  ];
}

const SHARDS_MAX = "cluster.max_shards_per_node";
const SET = z.record(z.string(), z.coerce.number()).default({});
const SHARDS = z.object({
  transient: SET,
  persistent: SET,
  defaults: SET,
  health: z.object({
    number_of_data_nodes: z.number().min(1),
    active_shards: z.number(),
    initializing_shards: z.number(),
    unassigned_shards: z.number(),
  }),
});

/** What the configuration says of indices: whether it fits tables and engine, and what was changed by hand. */
async function checkDefinitions(
  client: SearchClient,
  settings: CheckSettings,
  tables: readonly CheckedTable[],
  drift: readonly Finding[],
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const { parts, prefix } = settings;
  const id = "elasticsearch.index";
  const findings: Finding[] = parts.byTable.flatMap(({ pattern }): Finding[] => {
    const isIdle = tables.length > 0 && !tables.some((table) => fits(pattern, selectedName(table)));
    const what = `\`index\`: ${pattern} fits none of the sink's tables`;
    return isIdle ? [wrong(id, what, "correct the name, or leave it out")] : [];
  });
  const engine = { client, options: settings, lacking: new Set<string>() };
  const asked = new Map<string, Promise<string | null>>();
  for (const table of tables) {
    const name = tableId(table.schema, table.table);
    const definition = definitionFor(parts, table);
    if (!isDefined(engine, table)) continue;
    const conflicts = table.columns === undefined ? [] : conflictsOf(definition, table.columns);
    for (const { key, what, fix } of conflicts) findings.push(wrong(id, `\`index\` of ${name}, ${key}: ${what}`, fix));
    const wanted = trialDefinition(engine, table);
    if (conflicts.length > 0 || (!asked.has(wanted) && asked.size >= ASKED_MAX)) continue;
    const trial = asked.get(wanted) ?? tryDefinition(engine, table, `${prefix}millrace%check-${randomUUID()}`, signal);
    asked.set(wanted, trial);
    const refusal = await trial;
    if (refusal !== null) {
      const what = `\`index\` of ${name}: the engine refuses it: ${refusal}`;
      findings.push(wrong(id, what, "correct `settings`, `analyzers` or `mappings`"));
    }
  }
  return [...findings, ...drift].slice(0, TOLD_MAX);
}

/** So many indices are made to ask. */
const ASKED_MAX = 20;

/** Elasticsearch's policies, and OpenSearch's. */
function isManaged(settings: Readonly<Record<string, unknown>>): boolean {
  return Object.keys(settings).some((name) =>
    /^index\.(lifecycle\.name|plugins\.index_state_management\.policy_id)$/.test(name),
  );
}

/** Of templates only those are a danger that make data streams: all other settings are the sink's own in new indices. */
async function checkTemplates(
  client: SearchClient,
  naming: IndexNaming,
  tables: readonly CheckedTable[],
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const { status, body } = await client.look({ method: "GET", path: "/_index_template" }, signal);
  const found = status === 200 ? TEMPLATES.safeParse(parsed(body)) : undefined;
  // A role may write indices and not look at templates.
  if (found?.success !== true) return [];
  const names = [checkpointIndex(naming.prefix), ...tables.map((table) => indexAfter(ownIndexOf(naming, table)))];
  for (const name of names) {
    const fitting = found.data.index_templates.filter(({ index_template: of }) =>
      of.index_patterns.some((one) => isMatched(one, name)),
    );
    const [first] = fitting.toSorted((a, b) => b.index_template.priority - a.index_template.priority);
    if (first?.index_template.data_stream === undefined) continue;
    return [
      wrong(
        "elasticsearch.templates",
        `the template ${first.name} makes data streams of names such as ${name}: the engine makes no index there`,
        "give the sink another `prefix`, or the template other patterns",
      ),
    ];
  }
  return [];
}

const TEMPLATES = z.object({
  index_templates: z.array(
    z.object({
      name: z.string(),
      index_template: z.object({
        index_patterns: z.array(z.string()),
        priority: z.number().default(0),
        data_stream: z.unknown().optional(),
      }),
    }),
  ),
});

/** The engines' patterns have * alone. */
function isMatched(pattern: string, name: string): boolean {
  const parts = pattern.split("*").map((part) => part.replaceAll(/[^\w-]/g, String.raw`\$&`));
  return new RegExp(`^${parts.join(".*")}$`, "s").test(name);
}

const INDEX_PRIVILEGES = ["read", "index", "delete", "create_index", "manage", "view_index_metadata"];

/** A role on the indices of the prefix. Index names come from tables, so without a prefix it is on all indices. */
export function grants(url: string, prefix: string, role: string): readonly GrantScript[] {
  const names = [`${prefix}*`];
  const body = { cluster: ["monitor"], indices: [{ names, privileges: INDEX_PRIVILEGES }] };
  const openSearch = {
    cluster_permissions: ["cluster_monitor"],
    index_permissions: [{ index_patterns: names, allowed_actions: INDEX_ACTIONS }],
  };
  const { origin } = new URL(url);
  const put = (path: string, document: object) =>
    `curl -u ADMIN -X PUT ${shellWord(`${origin}${path}`)} -H 'content-type: application/json' -d ${shellWord(JSON.stringify(document))}`;
  const script = [
    ...(prefix === "" ? ["# The sink has no prefix, so the role is on all indices: `prefix` would narrow it."] : []),
    "# Elasticsearch; then give the role to the sink's user, or make an API key with it:",
    put(`/_security/role/${role}`, body),
    "# OpenSearch; then map the role to the sink's user:",
    `# ${put(`/_plugins/_security/api/roles/${role}`, openSearch)}`,
  ];
  return [{ by: "an administrator of the engine", language: "sh", script: script.join("\n") }];
}

/** OpenSearch's names for the same. */
const INDEX_ACTIONS = ["read", "write", "delete", "create_index", "manage", "get"];
