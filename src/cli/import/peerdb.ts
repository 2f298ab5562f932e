/** PeerDB's peers and mirrors, as its SQL makes them, as a configuration of Millrace: a source, and a sink for each mirror. */
import { isDeepStrictEqual } from "node:util";
import { isGlob } from "../../core/table-selection.ts";
import { cliError } from "../errors.ts";
import { asName } from "../init/init-file.ts";
import { refuseOthers } from "./connector-file.ts";
import { Findings, type Imported, UNDECIDED } from "./findings.ts";
import { type Mapping, type Mirror, peersAndMirrors } from "./peerdb-sql.ts";
import { type Reasons, Section, urlOf } from "./section.ts";

interface TableKeys {
  readonly into?: string;
  readonly columns?: Readonly<Record<string, { readonly drop: true }>>;
}

interface PeerdbConfig {
  readonly name: string;
  readonly source: object;
  readonly sinks: Readonly<Record<string, object>>;
  readonly tables?: Readonly<Record<string, TableKeys>>;
}

/** `from`: the peer that the mirrors read; null: the only one. */
export function importedFromPeerdb(file: string, text: string, from: string | null): Imported<PeerdbConfig> {
  refuseOthers(file, text, "peerdb");
  const findings = new Findings();
  const { peers, mirrors, others } = peersAndMirrors(file, text);
  for (const statement of others)
    if (/^(?:drop|alter|pause)$/.test(statement))
      findings.leave(statement, "what it does to a peer or mirror of this file is not carried over");
    else findings.note(statement, "it makes neither a peer nor a mirror");
  const sources = [...new Set(mirrors.map((mirror) => mirror.from))];
  const chosen = sources.filter((source) => from === null || source === from.toLowerCase());
  const [peer] = chosen;
  const names = sources.map((source) => JSON.stringify(source)).join(", ");
  if (peer === undefined) throw cliError("MR1140", `${file} has no mirror from it; they read ${names || "nothing"}`);
  if (chosen.length > 1)
    throw cliError("MR1140", `${file} has mirrors from several peers; choose one with --from: ${names}`);
  const own = mirrors.filter((mirror) => mirror.from === peer);
  for (const { name } of mirrors.filter((mirror) => mirror.from !== peer))
    findings.note(`mirror ${name}`, "it reads another peer");
  const name = asName(peer, 40) || "peerdb";
  const sectionOf = (each: string) => {
    const found = peers.get(each);
    const section = new Section(findings, `peer ${each}: `, found?.options ?? {});
    if (found === undefined) section.block("type", "it is not in the file: write `kind` and `url`");
    return { type: found?.type ?? "", section };
  };
  const { type, section } = sectionOf(peer);
  const made = own.map((mirror) => {
    const target = sectionOf(mirror.to);
    return sinkFrom(findings, mirror, target.type, target.section);
  });
  let snapshot = snapshotOf(findings, made);
  const tables = [...new Set(made.flatMap((sink) => sink.tables))];
  const isOneSelection = made.every((sink) => isDeepStrictEqual(sink.tables, made[0]?.tables));
  const rules = rulesFrom(findings, own, made);
  if (new Set(made.map((sink) => sink.name)).size < made.length) {
    findings.block("mirrors", "two of them would have one name here: give them others");
    snapshot = { ...snapshot, [UNDECIDED]: ["mirrors"] };
  }
  const config = {
    name,
    source: { ...sourceFrom(name, type, section), ...publicationOf(findings, made), tables, ...snapshot },
    sinks: Object.fromEntries(
      made.map((sink) => [sink.name, isOneSelection ? sink.keys : { ...sink.keys, tables: sink.tables }]),
    ),
    ...(Object.keys(rules).length === 0 ? {} : { tables: rules }),
  };
  return { config, left: findings.left, variables: findings.variables };
}

const OF_PEER: Reasons = {
  needless: {
    "metadata_schema metadata_database": "Millrace keeps positions in its state, and in the sink with the rows",
    "s3_path s3_integration access_key_id secret_access_key endpoint region": "no files are staged on the way",
    "replication_mechanism flavor setup compression": "Millrace asks the server, and needs no such setting",
    partitioner: "a record's key chooses its partition",
  },
  missing: {
    ssh_config: "write the address at which the database is reached",
    "tls_host root_ca certificate private_key": "write the files of TLS under `tls`",
  },
};

function sourceFrom(name: string, type: string, peer: Section): object {
  const kind = KINDS.get(type);
  if (kind === undefined && type !== "") peer.block("type", `Millrace reads no source of the type ${type}`);
  const url = databaseUrl(kind ?? "postgres", name.toUpperCase(), peer);
  peer.leaveRest(OF_PEER);
  return { kind: kind ?? UNDECIDED, url, ...peer.undecided() };
}

const KINDS: ReadonlyMap<string, string> = new Map([
  ["postgres", "postgres"],
  ["mysql", "mysql"],
]);

function databaseUrl(kind: string, label: string, peer: Section): string {
  const isPlain = peer.flag("disable_tls") === true;
  const isTls = peer.flag("require_tls") === true;
  const parameters: Record<string, string> =
    kind === "mysql" ? { "ssl-mode": isPlain ? "PREFERRED" : "REQUIRED" } : isTls ? { sslmode: "require" } : {};
  const database = peer.inUrl("database", `${label}_DATABASE`);
  return urlOf({
    kind,
    host: peer.inUrl("host", `${label}_HOST`) ?? "localhost",
    port: peer.inUrl("port", `${label}_PORT`),
    user: peer.inUrl("user", `${label}_USER`),
    password: peer.secret("password", `${label}_PASSWORD`),
    // A mirror's tables name the database of MySQL.
    database: kind === "mysql" ? null : database,
    parameters,
  });
}

interface MadeSink {
  readonly name: string;
  readonly keys: object;
  readonly tables: readonly string[];
  readonly options: { readonly isCopied: boolean; readonly publication: string | null };
  /** True: a target has the name that the mapping gives it. */
  readonly isNamed: boolean;
}

const OF_MIRROR: Reasons = {
  needless: {
    "max_batch_size sync_interval snapshot_* cdc_staging_path resync disabled":
      "memory and pace are bounded without it; the sink's `batch` has upper limits of one write",
    replication_slot_name: "Millrace makes its own slot, so that both can run side by side; drop PeerDB's later",
    "system disable_peerdb_columns": "a sink has types and columns of its own; a view can have PeerDB's names",
  },
  missing: {
    "soft_delete_col_name synced_at_col_name":
      "Millrace's columns are _millrace_deleted and _millrace_commit_time; a view can have PeerDB's names",
    initial_copy_only: "the tables are copied, then followed: `millrace run --once` ends when every sink has all of it",
  },
};

function sinkFrom(findings: Findings, mirror: Mirror, type: string, peer: Section): MadeSink {
  const section = new Section(findings, `mirror ${mirror.name}: `, mirror.options);
  const name = asName(mirror.name, 40) || "sink";
  const isSoft = section.flag("soft_delete") === true || section.has("soft_delete_col_name");
  const isCopied = section.flag("do_initial_copy") !== false;
  const publication = section.plain("publication_name", `${name.toUpperCase()}_PUBLICATION`);
  if (mirror.isOfQuery) section.block("FOR", "a query makes its rows: write the tables that it reads");
  if (section.has("script"))
    section.block("script", "what its code does to rows is not known: write rules to `tables`");
  section.leaveRest(OF_MIRROR);
  const tables = mirror.mappings.map(({ source }) => source);
  const odd = tables.some((table) => isGlob(table) || !/^[^.!]+\.[^$]+$/s.test(table) || table.includes("${"));
  if (odd) section.block("TABLE MAPPING", "one of its names can't be written as it is: write it to `source.tables`");
  const target = targetFrom(type, asName(mirror.to, 40).toUpperCase(), peer, isSoft);
  peer.leaveRest(OF_PEER);
  return {
    name,
    keys: { ...target.keys, ...peer.undecided(), ...section.undecided() },
    tables: odd || tables.length === 0 ? [UNDECIDED] : tables,
    options: { isCopied, publication },
    isNamed: target.isNamed,
  };
}

interface Target {
  readonly keys: object;
  readonly isNamed: boolean;
}

function targetFrom(type: string, label: string, peer: Section, isSoft: boolean): Target {
  const deletes = isSoft ? { deletes: "soft" } : {};
  if (type === "postgres")
    return { keys: { kind: "postgres", url: databaseUrl("postgres", label, peer), ...deletes }, isNamed: true };
  if (type === "clickhouse") {
    const isPlain = peer.flag("disable_tls") === true;
    const port = isPlain ? "8123" : "8443";
    peer.leave("port", `it is of ClickHouse's own protocol: ${port}, of its HTTP interface, was written`);
    const schema = peer.plain("database", `${label}_DATABASE`);
    const url = urlOf({
      kind: isPlain ? "http" : "https",
      host: peer.inUrl("host", `${label}_HOST`) ?? "localhost",
      port,
      user: peer.inUrl("user", `${label}_USER`),
      password: peer.secret("password", `${label}_PASSWORD`),
    });
    return { keys: { kind: "clickhouse", url, ...(schema === null ? {} : { schema }), ...deletes }, isNamed: true };
  }
  if (type === "kafka") {
    const username = peer.plain("user", `${label}_USER`);
    const password = peer.secret("password", `${label}_PASSWORD`);
    const mechanism = peer.text("sasl_mechanism") ?? "PLAIN";
    const keys = {
      kind: "kafka",
      brokers: (peer.plain("servers", `${label}_BROKERS`) ?? "localhost:9092").split(",").map((each) => each.trim()),
      ...(peer.flag("disable_tls") === true ? {} : { tls: true }),
      ...(username === null ? {} : { sasl: { mechanism, username, ...(password === null ? {} : { password }) } }),
    };
    peer.leave("topics", "they are named <name>.<schema>.<table>, and have Millrace's envelope");
    return { keys, isNamed: false };
  }
  if (type === "elasticsearch") {
    if (peer.has("username")) peer.block("username", "write user and password into the urls: http://user:password@…");
    for (const key of ["username", "password"]) peer.secret(key, `${label}_${key.toUpperCase()}`);
    const apiKey = peer.secret("api_key", `${label}_API_KEY`);
    const url = (peer.address("addresses", `${label}_URL`) ?? "").split(",").map((each) => each.trim());
    peer.leave("indexes", "they are named <prefix><schema>.<table>");
    return { keys: { kind: "elasticsearch", url, ...(apiKey === null ? {} : { apiKey }) }, isNamed: false };
  }
  if (type !== "") peer.block("type", `Millrace has no sink of the type ${type}: choose another one`);
  return { keys: { kind: UNDECIDED }, isNamed: false };
}

function snapshotOf(findings: Findings, made: readonly MadeSink[]): object {
  const copied = made.filter(({ options }) => options.isCopied);
  if (copied.length === made.length) return {};
  if (copied.length === 0) return { snapshot: "none" };
  findings.block("do_initial_copy", "some mirrors copy their tables and others do not: `initial` or `none`");
  return { snapshot: UNDECIDED };
}

/** Its filters count, if somebody made it with some. */
function publicationOf(findings: Findings, made: readonly MadeSink[]): object {
  const [only = null, ...others] = new Set(made.map(({ options }) => options.publication));
  if (others.length === 0) return only === null ? {} : { publication: only };
  findings.block("publication_name", "the mirrors have several, or some have none: `publication` is one");
  return { publication: [UNDECIDED] };
}

/** Rules count in all sinks: what one mirror excludes, none shows. */
function rulesFrom(
  findings: Findings,
  mirrors: readonly Mirror[],
  made: readonly MadeSink[],
): Readonly<Record<string, TableKeys>> {
  const named = mirrors.flatMap(({ name, mappings }, i) =>
    mappings.map((mapping) => ({ mirror: name, mapping, isNamed: made[i]?.isNamed === true })),
  );
  const rules: Record<string, TableKeys> = {};
  const users = Map.groupBy(
    named.filter(({ isNamed }) => isNamed),
    ({ mapping }) => targetOf(mapping),
  );
  for (const [source, all] of Map.groupBy(named, ({ mapping }) => mapping.source)) {
    const excluded = [...new Set(all.flatMap(({ mapping }) => mapping.exclude))];
    const key = `mirror ${all[0]!.mirror}: ${source}`;
    if (all.some(({ mapping }) => mapping.exclude.length < excluded.length))
      findings.leave(key, "what one mirror excludes is left out of all sinks");
    for (const { mapping, mirror } of all)
      if (mapping.key !== null)
        findings.leave(`mirror ${mirror}: ${source}`, "key: it chose a partition; here the row's key does");
    const targets = [...new Set(all.filter(({ isNamed }) => isNamed).map(({ mapping }) => targetOf(mapping)))];
    const [target] = targets;
    const isShared = target !== undefined && new Set(users.get(target)?.map(({ mapping }) => mapping.source)).size > 1;
    if (targets.length > 1) findings.leave(key, "the mirrors give it several names: it has its own in every sink");
    else if (isShared)
      findings.leave(
        key,
        `other tables are written to ${target} too: \`into\` and \`add\` do that, and tell them apart`,
      );
    const isRenamed = targets.length === 1 && !isShared && target !== source;
    if (!isRenamed && excluded.length === 0) continue;
    rules[source] = {
      ...(isRenamed ? { into: target } : {}),
      ...(excluded.length === 0
        ? {}
        : { columns: Object.fromEntries(excluded.map((column) => [column, { drop: true }] as const)) }),
    };
  }
  return rules;
}

/** In a sink that puts all tables into one schema the mapping names none. */
function targetOf({ source, destination }: Mapping): string {
  return destination.includes(".") ? destination : `${source.slice(0, source.indexOf("."))}.${destination}`;
}
