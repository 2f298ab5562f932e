/** Starts DuckDB with the extensions of a lake, and attaches the lake. */
import { createHash, randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Engine, EngineConnection, EngineOptions } from "../../kit/duckdb-engine/engine.ts";
import { openEngine } from "../open-engine.ts";
import { OPTIONS_REFUSED, optionsOf, TRANSACTION_TIMEOUT, WITHOUT_LIMITS } from "../../../src/postgres/connect.ts";
import { classify, driverKind, duckdbError } from "../errors.ts";
import { quoteIdentifier, quoteLiteral } from "../names.ts";
import { LakeLogin } from "./bucket.ts";
import type { LakePlace } from "./place.ts";

/** The name under which the lake is attached. */
export const LAKE = "lake";
/** The lake's catalogue, as tables. */
export const METADATA = `__ducklake_metadata_${LAKE}`;

/** Changes of up to so many rows are kept in the catalogue, so that small commits make no small files. */
export const INLINED_ROWS = 100;
/**
 * Larger rows make a file: on their way into the catalogue DuckLake takes twenty times their size from the process, which no
 * limit counts (a row of 50 MB: 1 GB).
 */
export const INLINED_ROW_BYTES_MAX = 32 * 1024;
/** How long a writer of the catalogue's file waits for another one. */
const BUSY_MS = 5_000;

export interface LakeSettings {
  readonly place: LakePlace;
  /** A folder with the extensions' files; undefined: DuckDB fetches them once. */
  readonly extensions: string | undefined;
  /** In DuckDB's form: `512MB`. */
  readonly memoryLimit: string;
  readonly threads: number;
  /** Whether the engine runs in a process of its own. Of several users of a lake the first decides. */
  readonly inOwnProcess?: boolean;
  /** See TargetNote. Undefined: of nobody, so no former sessions are looked for. */
  readonly owner?: string | undefined;
}

export type Access = "write" | "read";

/** The lake is attached. Reading creates nothing. */
export async function startEngine(settings: LakeSettings, access: Access, login = loginOf(settings)): Promise<Engine> {
  const engine = await openEngine(":memory:", engineOptions(settings), settings.inOwnProcess ?? false);
  try {
    await attachLake(engine, settings, access, login);
    return engine;
  } catch (error) {
    await engine.close();
    throw error;
  }
}

export function loginOf({ place }: LakeSettings): LakeLogin | null {
  return place.bucket === null ? null : new LakeLogin(place.bucket);
}

export function engineOptions({ extensions, memoryLimit, threads }: LakeSettings): EngineOptions {
  return {
    memory_limit: memoryLimit,
    threads: String(threads),
    preserve_insertion_order: "false",
    temp_directory: join(tmpdir(), `millrace-lake-${process.pid}`),
    // Extensions in a folder that the configuration names are trusted. The check of each takes 0.1 to 0.4 s.
    allow_unsigned_extensions: String(extensions !== undefined),
    // Staged files change without changing their names.
    enable_external_file_cache: "false",
    autoinstall_known_extensions: "false",
    autoload_known_extensions: "false",
  };
}

export async function attachLake(
  engine: { connect(): Promise<EngineConnection> },
  settings: LakeSettings,
  access: Access,
  login = loginOf(settings),
): Promise<void> {
  const { place, extensions } = settings;
  const connection = await engine.connect();
  try {
    for (const name of extensionsFor(place)) await loadExtension(connection, name, extensions);
    // Invariant: what a transaction reads of the catalogue is of one moment. Scans by several threads open SQLite's file anew: where
    // another program moves rows meanwhile, some are missed, the fence's too, and the deletion of others ends the process.
    if (place.kind === "sqlite") await connection.run("SET GLOBAL sqlite_disable_multithreaded_scans = true");
    // DuckLake compares times in connections of its own.
    await connection.run("SET GLOBAL TimeZone = 'UTC'");
    await login?.open(connection);
    const session = access === "write" && place.kind === "postgres" ? sessionOf(settings) : null;
    await attach(connection, place, access, session);
    if (session !== null) await endFormerSessions(connection, session);
    await setInlining(connection, true);
    // Invariant: a commit follows the snapshot that its transaction read, or is refused. Where DuckLake tries again by itself, it
    // compares too little: a delete kept in the catalogue and a compaction of the same file both commit, and the row is back.
    await connection.run("SET GLOBAL ducklake_max_retry_count = 0");
  } finally {
    connection.disconnectSync();
  }
}

/** Whether changes of few rows go into the catalogue, from the next statement on, of all connections. */
export async function setInlining(connection: EngineConnection, isOn: boolean): Promise<void> {
  await connection.run(`SET GLOBAL ducklake_default_data_inlining_row_limit = ${isOn ? INLINED_ROWS : 0}`);
}

/** The catalogue is there, and holds no lake yet. */
export function isNoLake(error: unknown): boolean {
  return (
    error instanceof Error &&
    /creating a new DuckLake is explicitly disabled|ducklake_(?:snapshot|metadata)"? does not exist/i.test(
      error.message,
    )
  );
}

function extensionsFor({ kind, bucket }: LakePlace): readonly string[] {
  const names = ["ducklake"];
  if (kind === "sqlite") names.push("sqlite_scanner");
  if (kind === "postgres") names.push("postgres_scanner");
  if (bucket !== null) names.push("httpfs");
  return names;
}

async function loadExtension(connection: EngineConnection, name: string, folder: string | undefined): Promise<void> {
  try {
    if (folder === undefined) {
      await connection.run(`INSTALL ${name}; LOAD ${name}`);
    } else {
      const file = join(folder, `${name}.duckdb_extension`);
      if (!existsSync(file)) throw missingExtension(name, file);
      await connection.run(`LOAD ${quoteLiteral(file)}`);
    }
  } catch (error) {
    if (!(error instanceof Error) || driverKind(error) === "unnamed error") throw classify(error, `loading ${name}`);
    throw duckdbError("MR3224", "blocked", `DuckDB's extension ${name} can't be loaded (${driverKind(error)})`, {
      hint: "give DuckDB the network, or the sink `extensions`: a folder with the extension for this version of DuckDB",
    });
  }
}

function missingExtension(name: string, file: string): Error {
  return duckdbError("MR3224", "blocked", `${file} is missing: DuckDB's extension ${name}`, {
    hint: "put it there, or leave `extensions` out: DuckDB then fetches it",
  });
}

interface Session {
  /** Of this sink, whatever process. */
  readonly prefix: string;
  readonly name: string;
}

/** A name that the catalogue's server shows. Null where the URL has one of its own. */
function sessionOf({ place, owner }: LakeSettings): Session | null {
  if (owner === undefined || place.catalog.includes("application_name=")) return null;
  const prefix = `millrace-lake-${createHash("sha256").update(owner).digest("hex").slice(0, 16)}-`;
  return { prefix, name: `${prefix}${randomBytes(4).toString("hex")}` };
}

/**
 * A former process of this sink, or a former connection, may have left a commit in the middle, if the network ended
 * without a word: nobody could commit before the server notices, hours later, and the rest of it could still arrive.
 */
async function endFormerSessions(connection: EngineConnection, { prefix, name }: Session): Promise<void> {
  const sql =
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user " +
    `AND starts_with(application_name, '${prefix}') AND application_name <> '${name}'`;
  try {
    await connection.run(`CALL postgres_execute(${quoteLiteral(METADATA)}, ${quoteLiteral(sql)})`);
  } catch {
    // Where the server does not let us, commits wait for the former one's end: each needs a number that only one can have.
  }
}

/**
 * Of connections to the catalogue's server. Nothing ends a wait of libpq from outside: without them a server that is silent, or
 * another program at its port, keeps the sink, and an ordered stop, for ever.
 */
const LIMITS = {
  connect_timeout: "10",
  keepalives_idle: "30",
  keepalives_interval: "10",
  keepalives_count: "3",
  tcp_user_timeout: "60000",
};

/** An answer to a commit must mean that the data is on disk. */
const SETTINGS = { ...WITHOUT_LIMITS, synchronous_commit: "on" };
/** Of sessions at the catalogue's server; the next is for a server, or a pooler before it, that refuses those before. */
const OPTIONS = [optionsOf({ ...SETTINGS, [TRANSACTION_TIMEOUT]: "0" }), optionsOf(SETTINGS), ""];
/** An older server names the setting, in its own language; the URL has it with its value. */
const SETTING_REFUSED = new RegExp(`${TRANSACTION_TIMEOUT}(?!=|%3D)`);

async function attach(
  connection: EngineConnection,
  place: LakePlace,
  access: Access,
  session: Session | null,
): Promise<void> {
  const ways = place.kind === "postgres" ? OPTIONS : [""];
  for (const [i, options] of ways.entries()) {
    try {
      await connection.run(attachSql(place, access, session, options));
      return;
    } catch (error) {
      const text = error instanceof Error ? error.message : "";
      const isRefused = SETTING_REFUSED.test(text) || OPTIONS_REFUSED.test(text);
      if (!isRefused || i === ways.length - 1) throw error;
    }
  }
}

/** Those that the URL has stay. */
function withParameters(url: string, parameters: Readonly<Record<string, string>>): string {
  const missing = Object.entries(parameters).filter(([name]) => !new RegExp(`[?&]${name}=`).test(url));
  return missing.reduce((at, [name, value]) => `${at}${at.includes("?") ? "&" : "?"}${name}=${value}`, url);
}

/** Behind those of the URL, which they override. */
function withOptions(url: string, options: string): string {
  if (options === "") return url;
  const [, before, own = ""] = /^(.*[?&]options=)([^&]*)/s.exec(url) ?? [];
  if (before === undefined) return withParameters(url, { options: encodeURIComponent(options) });
  return `${before}${own}${encodeURIComponent(` ${options}`)}${url.slice(before.length + own.length)}`;
}

function attachSql(
  { kind, catalog, data }: LakePlace,
  access: Access,
  session: Session | null,
  sessionOptions: string,
): string {
  const options = [`DATA_PATH ${quoteLiteral(data)}`];
  if (access === "read") options.push("READ_ONLY", "CREATE_IF_NOT_EXISTS false");
  if (kind === "sqlite") options.push(`META_BUSY_TIMEOUT ${BUSY_MS}`);
  if (kind === "sqlite" && access === "write") options.push("META_JOURNAL_MODE 'WAL'");
  const own = { ...(session === null ? {} : { application_name: session.name }), ...LIMITS };
  const at = kind === "postgres" ? withOptions(withParameters(catalog, own), sessionOptions) : catalog;
  return `ATTACH ${quoteLiteral(`ducklake:${kind}:${at}`)} AS ${quoteIdentifier(LAKE)} (${options.join(", ")})`;
}
