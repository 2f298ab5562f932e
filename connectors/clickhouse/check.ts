import { randomBytes } from "node:crypto";
import type { MillraceError } from "../../src/core/errors.ts";
import { loginIn } from "../../src/tls/url-parts.ts";
import type { CheckedTable, Finding, TableName } from "../../src/core/contracts/connector.ts";
import { failed, ok, takenFrom, warning, wrong } from "../kit/findings.ts";
import { Client } from "./client.ts";
import { clickhouseError, explain, HINTS, isDenied, isLoginRefused } from "./errors.ts";
import { CLUSTER_PRIVILEGES, databasesOf, privilegesOf, SYNC_PRIVILEGE } from "./grants.ts";
import { replicaClusters, processesOf } from "./fence.ts";
import { META_DATABASE, quoteIdentifier, quoteLiteral, shownTarget, sqlNameOf, targetOf } from "./names.ts";
import { otherSharing, SHARING_HINT } from "../../src/core/targets/sharing.ts";
import { isShared, successorOf } from "../warehouse/following.ts";
import { checkedParts, refusedParts } from "../warehouse/scopes.ts";
import { ScopeRows } from "./scopes.ts";
import type { ClickhouseSinkSettings } from "./sink.ts";
import { alterationOf, type ClickhouseTarget, lookUpTargets } from "./tables/existing.ts";
import { isOurView } from "./tables/view.ts";

const ANSWERS_MS_MAX = 20_000;
/** The first with ReplacingMergeTree's is_deleted as it is now, and CHECK GRANT. */
const OLDEST = [24, 8] as const;

/** Preflight: connects, and changes nothing. */
export async function check(
  settings: ClickhouseSinkSettings,
  until: AbortSignal,
  tables: readonly CheckedTable[] | undefined,
): Promise<readonly Finding[]> {
  const id = `clickhouse.${settings.name}`;
  const signal = AbortSignal.any([until, AbortSignal.timeout(ANSWERS_MS_MAX)]);
  const findings: Finding[] = [];
  try {
    await using client = await Client.open(settings, signal);
    findings.push(await checkVersion(client, id, signal));
    findings.push(...(await checkGrants(client, settings, tables, signal)));
    findings.push(...(await checkStatements(client, settings, tables, { signal, until })));
    findings.push(...checkLimits(client, settings));
    findings.push(...(await checkTables(client, settings, tables ?? [], signal)));
    if (settings.quorum === undefined) findings.push(...(await checkReplicas(client, settings, signal)));
    if (settings.placement.cluster !== undefined) {
      findings.push(await checkCluster(client, id, settings.placement.cluster, signal));
    }
  } catch (error) {
    findings.push(failed(`${id}.connect`, await explain(error, "connecting", { url: settings.url, signal: until })));
  }
  return findings;
}

async function checkVersion(client: Client, id: string, signal: AbortSignal): Promise<Finding> {
  const [[version] = []] = await client.rows("SELECT version()", signal);
  const [major = 0, minor = 0] = (version ?? "").split(".").map(Number);
  const what = `connected to ClickHouse ${version ?? "of an unknown version"}`;
  if (major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])) return ok(`${id}.connect`, what);
  return wrong(`${id}.connect`, `${what}, which is too old`, `use ClickHouse ${OLDEST.join(".")} or newer`);
}

async function checkGrants(
  client: Client,
  settings: ClickhouseSinkSettings,
  tables: readonly TableName[] | undefined,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const id = `clickhouse.${settings.name}.grants`;
  const ofDatabases = (databasesOf(settings, tables) ?? [META_DATABASE]).flatMap((database) =>
    privilegesOf(settings).map((privilege) => `${privilege} ON ${quoteIdentifier(database)}.*`),
  );
  const ofAll = settings.placement.cluster === undefined ? [] : CLUSTER_PRIVILEGES.map((one) => `${one} ON *.*`);
  const missing: string[] = [];
  for (const grant of [...ofDatabases, ...ofAll]) {
    // This statement takes no FORMAT.
    const answer = await client.text(`CHECK GRANT ${grant}`, signal);
    if (answer.trim() !== "1") missing.push(grant);
  }
  if (missing.length === 0) return [ok(id, "the user has all grants that the sink needs")];
  const user = quoteIdentifier(loginIn(settings.url).username || "default");
  return [
    wrong(id, `the user lacks ${missing.join(", ")}`, missing.map((grant) => `GRANT ${grant} TO ${user};`).join(" ")),
  ];
}

/** The fence ends statements that the sink gave up (WriteFence): it finds them by their ids, on all replicas. */
async function checkStatements(
  client: Client,
  settings: ClickhouseSinkSettings,
  tables: readonly TableName[] | undefined,
  { signal, until }: { readonly signal: AbortSignal; readonly until: AbortSignal },
): Promise<readonly Finding[]> {
  const id = `clickhouse.${settings.name}`;
  const replicas = `${id}.replicas`;
  const databases = databasesOf(settings, tables) ?? [META_DATABASE];
  const known = async (error: unknown) =>
    await explain(error, "looking for the sink's statements", { url: settings.url, signal: until });
  // Checks of other sinks and daemons run at the same time.
  client.sender = { mark: `millrace check ${randomBytes(8).toString("hex")} `, unanswered: () => undefined };
  const found = await looking(`${id}.statements`, known, async () => {
    await client.run("KILL QUERY WHERE query_id = '' TEST", signal);
    return ok(`${id}.statements`, "the user may end its own statements");
  });
  client.sender = null;
  if (settings.placement.cluster !== undefined) return [found];
  const clusters = await replicaClusters(client, databases, signal);
  const findings = [found];
  for (const cluster of clusters) {
    const look = async (): Promise<Finding> => {
      try {
        await client.rows(`SELECT count() FROM ${processesOf(cluster)}`, signal, { skip_unavailable_shards: 1 });
        return ok(replicas, `the user may see its own statements on all replicas (${cluster})`);
      } catch (error) {
        if (!isLoginRefused(error)) throw error;
        const what = `the replicas of ${cluster} refuse the login with which the server asks them: ${ELSEWHERE}`;
        const fix =
          "give the Replicated database a `collection_name` (or `cluster_username`, `cluster_password`) whose login they take; or let `url` lead to one server";
        return warning(replicas, what, fix);
      }
    };
    findings.push(await looking(replicas, known, look));
  }
  const list = databases.map(quoteLiteral).join(", ");
  const [[apart] = []] = await client.rows(
    `SELECT count() FROM system.tables WHERE database IN (${list}) AND startsWith(engine, 'Replicated') ` +
      "AND database NOT IN (SELECT name FROM system.databases WHERE engine = 'Replicated')",
    signal,
  );
  if (Number(apart) === 0) return findings;
  const what = `the sink does not know which servers have replicas of its tables: ${ELSEWHERE}`;
  const fix = "if there is more than one, set `cluster`, or let `url` lead to one server";
  return [...findings, warning(replicas, what, fix)];
}

const ELSEWHERE = "what it gives up is ended only on the server that answers it then";

async function looking(
  id: string,
  known: (error: unknown) => Promise<MillraceError>,
  look: () => Promise<Finding>,
): Promise<Finding> {
  try {
    return await look();
  } catch (error) {
    if (!isDenied(error)) return failed(id, await known(error));
    return wrong(
      id,
      "the user may not see and end its own statements, so the sink can't know whether those that it gave up still run",
      "GRANT SELECT ON system.processes TO the sink's user; where it has replicas also GRANT REMOTE, CREATE TEMPORARY TABLE ON *.*",
    );
  }
}

/** The sink lifts those that its user may lift. */
function checkLimits({ fixedLimits }: Client, { name, url }: ClickhouseSinkSettings): readonly Finding[] {
  const user = quoteIdentifier(loginIn(url).username || "default");
  return fixedLimits.map((limit) =>
    warning(
      `clickhouse.${name}.limits`,
      `the user's profile keeps ${limit.name} = ${limit.value}: it may end statements of the sink`,
      `ALTER USER ${user} SETTINGS ${limit.name} = 0;`,
    ),
  );
}

async function checkTables(
  client: Client,
  { name: sink, owner, schema, form, placement }: ClickhouseSinkSettings,
  tables: readonly CheckedTable[],
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const wanted = new Map(
    tables.map((table) => {
      const target = targetOf(table, schema);
      return [sqlNameOf(target), { table, target }] as const;
    }),
  );
  const targets = [...wanted.values()].map(({ target }) => target);
  const id = `clickhouse.${sink}.table`;
  const parts = checkedParts(tables, (table) => sqlNameOf(targetOf(table, schema)));
  const owners =
    parts.length === 0
      ? new Map<string, never>()
      : await new ScopeRows(client, placement, signal).look(parts.map(({ scope }) => scope));
  const refused = refusedParts(clickhouseError, owner, parts, owners).map((error) => failed(id, error));
  const found = [...(await lookUpTargets(client, targets, signal))].flatMap(([name, existing]): Finding[] => {
    if (isOurView(existing)) return [];
    const { table, target } = wanted.get(name)!;
    const error = (what: string, fix: string): Finding[] => [wrong(id, `${name} ${what}`, fix)];
    if (existing.form === null)
      return error("exists and was not made by Millrace", "rename or drop it, or give the sink another `schema`");
    if (existing.form.mode !== form.mode)
      return error(`holds a ${existing.form.mode}, and the sink is to keep a ${form.mode}`, HINTS.MR3120);
    const sharing = otherSharing(shownTarget(target), isShared(existing.note), table);
    if (sharing !== null) return [wrong(id, `MR3106: ${sharing}`, SHARING_HINT)];
    const altered = alterationOf(existing, placement) ?? otherKey(existing) ?? otherType(existing);
    if (altered !== null) return error(`was changed by somebody: ${altered}`, HINTS.MR3107);
    const taken = takenFrom(id, shownTarget(target), successorOf(owner, existing.note), form.mode);
    if (!existing.engine.expires) return [...taken];
    return [
      ...taken,
      warning(id, `${name} has a TTL: rows go by themselves, and a comparison calls them missing`, null),
    ];
  });
  return [...refused, ...found];
}

function otherKey({ note, keys: [sorted] }: ClickhouseTarget): string | null {
  const isKey = note === null || note.key.every((column) => sorted?.includes(column) === true);
  return sorted !== undefined && isKey ? null : "its sorting key is not the table's key";
}

function otherType({ note, columns }: ClickhouseTarget): string | null {
  for (const [column, [, noted]] of Object.entries(note?.columns ?? {})) {
    const type = columns.get(column)?.type ?? noted;
    if (type !== noted) return `column ${column} is ${type}, and not ${noted}`;
  }
  return null;
}

/** Without a quorum, a replica may answer that has not received what was written. */
async function checkReplicas(
  client: Client,
  { name, placement }: ClickhouseSinkSettings,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const made = await client.rows(
    `SELECT name FROM system.tables WHERE database = '${META_DATABASE}' AND match(engine, '^(Replicated|Shared)')`,
    signal,
  );
  if (placement.cluster === undefined && made.length === 0) return [];
  return [
    warning(
      `clickhouse.${name}.quorum`,
      "tables have replicas and no quorum: a replica that has not received a batch yet can answer a read of it, so each such read first waits for a replica to catch up",
      `set \`quorum: auto\`; without it the user needs ${SYNC_PRIVILEGE} on the databases of the tables`,
    ),
  ];
}

async function checkCluster(client: Client, id: string, cluster: string, signal: AbortSignal): Promise<Finding> {
  const rows = await client.rows("SELECT DISTINCT cluster FROM system.clusters", signal);
  const names = rows.map(([name]) => name);
  if (names.includes(cluster)) return ok(`${id}.cluster`, `the server knows the cluster ${cluster}`);
  return wrong(
    `${id}.cluster`,
    `the server knows no cluster ${cluster}`,
    `set \`cluster\` to one of: ${names.join(", ") || "none is configured"}`,
  );
}
