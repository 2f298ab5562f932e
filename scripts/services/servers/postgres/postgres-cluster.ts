/** The data folder of a Postgres, created by initdb or as a base backup of a primary, and its configuration. */
import { chown, copyFile, mkdir, opendir, writeFile, appendFile, chmod, readlink, symlink } from "node:fs/promises";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { Client } from "pg";
import { command } from "../../processes/command.ts";
import { hasCode } from "../../processes/errno.ts";
import { ownFolder, type RunUser } from "../../processes/run-user.ts";
import type { RunningPostgres } from "./postgres.ts";

export type Settings = Readonly<Record<string, string | number | boolean>>;

export interface StandbyOptions {
  readonly primary: RunningPostgres;
  /** The physical slot on the primary for this standby. Default: a new name. */
  readonly slotName?: string;
  /** sync_replication_slots: logical slots of the primary made with failover are kept on the standby too. */
  readonly syncSlots?: boolean;
}

export interface Configuration {
  readonly dataDir: string;
  readonly user: RunUser | undefined;
  readonly settings: Settings;
  readonly auth: readonly string[] | undefined;
  readonly tls: { readonly keyPath: string; readonly certificatePath: string; readonly caPath?: string } | undefined;
  readonly standbyOf: StandbyOptions | undefined;
}

export async function createCluster(
  initdb: string,
  major: number,
  dataDir: string,
  user: RunUser | undefined,
): Promise<void> {
  await ownFolder(dataDir, user);
  await command(
    initdb,
    [
      "--pgdata",
      dataDir,
      "--username=postgres",
      "--auth=trust",
      "--encoding=UTF8",
      // The builtin provider is the same on every machine, from 17 on; some machines lack the C library's C.UTF-8.
      "--locale=C",
      ...(major >= 17 ? ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] : []),
      "--no-sync",
    ],
    { user, env: { LC_ALL: "C", TZ: "UTC" } },
  );
}

/**
 * A base backup by Postgres' low-level interface (the packaged binaries have no pg_basebackup): the server marks the
 * start, its files are copied while it works, and the standby replays from that mark. It streams the rest of the log
 * from the primary, which keeps it for the slot.
 */
export async function copyPrimary(options: StandbyOptions, dataDir: string, user: RunUser | undefined): Promise<void> {
  const { primary } = options;
  if (primary.dataDir === undefined) throw new Error("a standby needs a primary of the native kind");
  await using client = await connect(primary);
  await client.query("select pg_create_physical_replication_slot($1, true)", [slotNameOf(options)]);
  // The functions have other names before 15; the last argument of each is for a backup that ends with its session.
  const isOld = (primary.major ?? 0) < 15;
  await client.query(
    isOld ? "select pg_start_backup('standby', true, false)" : "select pg_backup_start('standby', true)",
  );
  await ownFolder(dataDir, user);
  await copyFolder(primary.dataDir, dataDir, "", user);
  const stopped = await client.query<{ labelfile: string; spcmapfile: string }>(
    `select labelfile, spcmapfile from ${isOld ? "pg_stop_backup(false, false)" : "pg_backup_stop(false)"}`,
  );
  const { labelfile, spcmapfile } = stopped.rows[0] ?? { labelfile: "", spcmapfile: "" };
  await ownFile(join(dataDir, "backup_label"), labelfile, user);
  if (spcmapfile !== "") await ownFile(join(dataDir, "tablespace_map"), spcmapfile, user);
}

export async function writeConfiguration(configuration: Configuration): Promise<void> {
  const { dataDir, user, auth, tls, standbyOf } = configuration;
  const settings: Record<string, string | number | boolean> = { ...configuration.settings };
  if (tls !== undefined) Object.assign(settings, await copyCertificates(tls, dataDir, user));
  if (standbyOf !== undefined) {
    settings["primary_slot_name"] = slotNameOf(standbyOf);
    settings["primary_conninfo"] = conninfo(standbyOf.primary, slotNameOf(standbyOf));
    settings["hot_standby_feedback"] = true;
    if (standbyOf.syncSlots === true) settings["sync_replication_slots"] = true;
    await ownFile(join(dataDir, "standby.signal"), "", user);
  }
  const lines = Object.entries(settings).map(([key, value]) => `${key} = '${String(value).replaceAll("'", "''")}'\n`);
  await ownFile(join(dataDir, "millrace.conf"), lines.join(""), user);
  if (standbyOf === undefined) await appendFile(join(dataDir, "postgresql.conf"), "\ninclude 'millrace.conf'\n");
  const tcp = auth ?? ["host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"];
  await ownFile(
    join(dataDir, "pg_hba.conf"),
    ["local all all trust", "local replication all trust", ...tcp, ""].join("\n"),
    user,
  );
}

const slotNames = new WeakMap<StandbyOptions, string>();

function slotNameOf(options: StandbyOptions): string {
  if (options.slotName !== undefined) return options.slotName;
  const known = slotNames.get(options);
  if (known !== undefined) return known;
  const name = `standby_${randomUUID().slice(0, 8)}`;
  slotNames.set(options, name);
  return name;
}

/**
 * Uses the primary's socket, which is trusted whatever its pg_hba lines say; with a database for slot synchronisation.
 */
function conninfo(primary: RunningPostgres, applicationName: string): string {
  const parts = { host: primary.socketDir, port: primary.port, user: "postgres", dbname: "postgres" };
  return Object.entries({ ...parts, application_name: applicationName })
    .map(([key, value]) => `${key}=${value}`)
    .join(" ");
}

async function connect(primary: RunningPostgres): Promise<Client & AsyncDisposable> {
  const client = new Client({
    host: primary.socketDir ?? primary.host,
    port: primary.port,
    user: "postgres",
    database: "postgres",
  });
  await client.connect();
  return Object.assign(client, { [Symbol.asyncDispose]: () => client.end() });
}

async function copyCertificates(tls: NonNullable<Configuration["tls"]>, dataDir: string, user: RunUser | undefined) {
  const settings: Record<string, string | boolean> = { ssl: true };
  const files = { ssl_key_file: tls.keyPath, ssl_cert_file: tls.certificatePath, ssl_ca_file: tls.caPath };
  for (const [setting, path] of Object.entries(files)) {
    if (path === undefined) continue;
    const copy = join(dataDir, `${setting}.pem`);
    await copyFile(path, copy);
    // Postgres refuses a key that other users can read.
    await chmod(copy, 0o600);
    if (user !== undefined) await chown(copy, user.uid, user.gid);
    settings[setting] = copy;
  }
  return settings;
}

/** Folders that belong to the running primary and not to a backup; they are created empty. */
const EMPTY_FOLDERS = new Set(
  ["pg_wal", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"].map(
    (name) => `/${name}`,
  ),
);
const LEFT_OUT = new Set(["/postmaster.pid", "/postmaster.opts", "/backup_label", "/standby.signal"]);

/** Files may disappear while they are copied (a dropped table, a recycled segment); replaying the log corrects that. */
async function copyFolder(from: string, to: string, below: string, user: RunUser | undefined): Promise<void> {
  for await (const entry of await opendir(join(from, below))) {
    const path = `${below}/${entry.name}`;
    if (LEFT_OUT.has(path) || entry.name.startsWith("pgsql_tmp") || entry.name === "pg_internal.init") continue;
    const target = join(to, path);
    try {
      if (entry.isDirectory()) {
        await mkdir(target, { mode: 0o700 });
        if (!EMPTY_FOLDERS.has(path)) await copyFolder(from, to, path, user);
        else if (path === "/pg_wal") await ownFolder(join(target, "archive_status"), user);
      } else if (entry.isSymbolicLink()) {
        await symlink(await readlink(join(from, path)), target);
        continue;
      } else {
        await copyFile(join(from, path), target);
      }
      if (user !== undefined) await chown(target, user.uid, user.gid);
    } catch (error) {
      if (!hasCode(error, "ENOENT")) throw error;
    }
  }
}

async function ownFile(path: string, text: string, user: RunUser | undefined): Promise<void> {
  await writeFile(path, text, { mode: 0o600 });
  if (user !== undefined) await chown(path, user.uid, user.gid);
}
