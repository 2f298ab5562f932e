import type { MillraceError } from "../../src/core/errors.ts";
import type { CheckedTable, Finding, GrantScript } from "../../src/core/contracts/connector.ts";
import { parseCheckpoint, readCheckpoint } from "./checkpoint.ts";
import { Connection, type ConnectionSettings, parseUrl, serverOf, settingOf, textOf } from "./connection.ts";
import { shellWord } from "../../src/core/shell-word.ts";
import { ACL_COMMANDS, ACL_FASTER, ACL_OF_CLUSTERS, classify } from "./errors.ts";
import { checkpointKey, PREFIXES_KEY } from "./keys.ts";
import { evictionIn, infoOf, memoryOf } from "./memory.ts";
import { failed, looked, ok, takenFrom, warning, wrong } from "../kit/findings.ts";
import { meeting, prefixesIn, refusedIn, type Starts, successorsIn } from "./owners.ts";
import { tableKeyStart } from "./write/table-target.ts";
import type { RedisSinkSettings } from "./sink.ts";

/** Preflight: connects, and writes nothing. */
export async function check(
  settings: RedisSinkSettings,
  signal: AbortSignal,
  tables: readonly CheckedTable[] = [],
): Promise<readonly Finding[]> {
  let connection: Connection;
  try {
    connection = await Connection.open(settings, signal);
  } catch (error) {
    return [failed("redis.connect", classify(error, signal, serverOf(settings.url)))];
  }
  await using held = connection;
  const findings: Finding[] = [ok("redis.connect", `connected to ${serverOf(settings.url)}`)];
  const known = (error: unknown): MillraceError => classify(error, signal, serverOf(settings.url));
  const looks = [
    checkScripts,
    checkServer,
    checkReplicas,
    checkPrefixes,
    checkProgress,
    checkEviction,
    checkPersistence,
    () => checkOwners(held, settings, tables),
  ];
  for (const look of looks) findings.push(...(await looked("redis.command", known, () => look(held, settings))));
  return findings;
}

/** A user of the server that may do what the sink does, with its own keys only. */
export function grants({
  url,
  prefix,
  cluster,
}: ConnectionSettings & { readonly prefix: string }): readonly GrantScript[] {
  const { host, port, username } = parseUrl(url);
  const user = username ?? "millrace";
  const keys = [`~${prefix.replaceAll(/[\\*?[\]]/g, "\\$&")}*`, `~${PREFIXES_KEY}`];
  const to = `redis-cli -h ${shellWord(host)} -p ${port}`;
  const commands = [ACL_COMMANDS, ACL_FASTER, ...(cluster ? [ACL_OF_CLUSTERS] : [])].flatMap((list) => list.split(" "));
  const words = [user, "on", "resetkeys", "resetchannels", ...keys, "-@all", ...commands];
  const script = [
    `${to} ACL SETUSER ${words.map(shellWord).join(" ")}`,
    `# Its password: ${to} ACL SETUSER ${shellWord(user)} '>…'. Where the server has an aclfile: ${to} ACL SAVE`,
  ];
  return [
    { by: cluster ? "an administrator, on every node" : "an administrator", language: "sh", script: script.join("\n") },
  ];
}

/** The sink's script decodes rows with this library; every Redis and Valkey has it. */
async function checkScripts(connection: Connection): Promise<Finding[]> {
  const reply = await connection.command("eval", "return type(cmsgpack)", "0");
  if (textOf(reply) === "table") return [ok("redis.scripts", "scripts run, and cmsgpack exists")];
  return [wrong("redis.scripts", "the server's scripts have no cmsgpack library", "use Redis 6.0 or newer, or Valkey")];
}

async function checkServer(connection: Connection, settings: ConnectionSettings): Promise<Finding[]> {
  const info = await infoOf(connection);
  if (info === null) return [];
  const findings: Finding[] = [];
  if (info.get("role") === "slave") {
    findings.push(wrong("redis.role", "the server is a replica and takes no writes", "point `url` at the primary"));
  }
  const isCluster = info.get("cluster_enabled") === "1";
  if (isCluster !== settings.cluster) {
    findings.push(
      wrong(
        "redis.cluster",
        isCluster ? "the server is a cluster node" : "the server is not a cluster node",
        `set cluster: ${isCluster} in the sink's configuration`,
      ),
    );
  }
  return findings;
}

/** With fewer replicas than a batch waits for, no batch is ever confirmed. */
async function checkReplicas(connection: Connection, { waitReplicas }: RedisSinkSettings): Promise<Finding[]> {
  if (waitReplicas === 0) return [];
  const infos = await Promise.all(connection.primaries().map(infoOf));
  const counts = infos.flatMap((info) => info?.get("connected_slaves") ?? []).map(Number);
  if (counts.length === 0 || Math.min(...counts) >= waitReplicas) return [];
  return [
    wrong(
      "redis.replicas",
      `a batch waits for ${waitReplicas} replicas, and ${connection.isCluster ? "a primary" : "the server"} has ${Math.min(...counts)} connected`,
      "connect replicas (INFO replication lists them), or lower `waitReplicas`",
    ),
  ];
}

/** Sinks of one configuration leave each other the keys of the longer prefix; those of two daemons do not know each other's. */
async function checkPrefixes(connection: Connection, { url, prefix, daemon }: RedisSinkSettings): Promise<Finding[]> {
  const prefixes = await prefixesIn(connection);
  if (prefixes === null) {
    const user = shellWord(parseUrl(url).username ?? "default");
    const what = `the user may not use the key ${PREFIXES_KEY}: another daemon whose prefix begins like this one's is not noticed`;
    return [warning("redis.prefixes", what, `ACL SETUSER ${user} ${shellWord(`~${PREFIXES_KEY}`)}`)];
  }
  return prefixes.flatMap(([sink, other]) => {
    if (sink.startsWith(`${daemon}/`) || other === prefix || !meeting(other)(prefix)) return [];
    const what = `the prefix ${JSON.stringify(prefix)} and that of ${sink}, ${JSON.stringify(other)}, begin alike: of tables whose keys are the same the newest sink has them, and the other suspends them (MR3121)`;
    const fix = `give each a \`prefix\` that the other does not begin with, such as ${JSON.stringify(`${daemon}:`)}; if ${sink} is gone for good: HDEL ${PREFIXES_KEY} ${shellWord(sink)}`;
    return [warning("redis.prefixes", what, fix)];
  });
}

/** Which tables' keys other sinks write, as far as the register of this prefix tells. */
async function checkOwners(
  connection: Connection,
  settings: RedisSinkSettings,
  tables: readonly CheckedTable[],
): Promise<Finding[]> {
  const { prefix, daemon, name } = settings;
  const owner = `${daemon}/${name}`;
  const starts = tables.map(({ schema, table, scope }): Starts => {
    const named = tableKeyStart(settings, { schema, table });
    return [scope === undefined ? named : tableKeyStart(settings, { schema, table, scope }), named];
  });
  const refused = await refusedIn(connection, { prefix, owner }, starts);
  const names = starts.map(([start]) => start);
  const others = await successorsIn(connection, { prefix, owner }, names);
  return names.flatMap((start, i) => {
    const error = refused[i] ?? null;
    if (error !== null) return [failed("redis.owners", error)];
    return takenFrom("redis.owners", `${start}…`, others.get(start) ?? null);
  });
}

/** What the start finds in the sink's checkpoint. */
async function checkProgress(
  connection: Connection,
  { prefix, daemon, name, format }: RedisSinkSettings,
): Promise<Finding[]> {
  const key = Buffer.from(checkpointKey(prefix, daemon, name));
  const stored = await readCheckpoint(connection, key);
  parseCheckpoint(stored, format, key);
  if (stored.format === "" || stored.format === format) return [];
  const what = `the keys hold rows in format ${stored.format}: the start reads all of them again, in format ${format}`;
  const fix = "set `format` back, or give the sink another `prefix`, to keep them";
  return [warning("redis.format", what, fix)];
}

/** An evicted row is missing, and after an evicted checkpoint key the sink would think that it was emptied. */
async function checkEviction(connection: Connection): Promise<Finding[]> {
  const found = await Promise.all(connection.primaries().map(async (primary) => evictionIn(await memoryOf(primary))));
  const eviction = found.find((one) => one !== null);
  return eviction === undefined ? [] : [{ id: "redis.eviction", level: "warning", ...eviction }];
}

async function checkPersistence(connection: Connection): Promise<Finding[]> {
  const appendOnly = await settingOf(connection, "appendonly");
  if (appendOnly === null || appendOnly === "yes") return [];
  return [
    warning(
      "redis.persistence",
      "appendonly is no: after a crash the server loads its last dump, and Millrace fills the cache again",
      "CONFIG SET appendonly yes, or leave it if filling the cache again is acceptable",
    ),
  ];
}
