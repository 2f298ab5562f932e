/** The settings of all our sessions, and how they come into force, also behind a pooler. */
import { setTimeout as delay } from "node:timers/promises";
import type { Client } from "pg";
import { Failure } from "./failure.ts";

/**
 * The settings of all our sessions, independent of the role's and the database's settings: as startup options, which
 * override them. The first seven fix the text form of values and of type names, also in a walsender, whose output functions use
 * its own session's settings; array_nulls and xmloption fix how texts are parsed. row_security=off makes the server
 * refuse a read that a policy would restrict, instead of hiding rows.
 */
const SESSION_SETTINGS = {
  DateStyle: "ISO",
  IntervalStyle: "postgres",
  TimeZone: "UTC",
  // The server's own types need only 1; extensions' types print that many digits more than the safe number.
  extra_float_digits: "3",
  bytea_output: "hex",
  lc_monetary: "C",
  quote_all_identifiers: "off",
  array_nulls: "on",
  xmloption: "content",
  client_encoding: "UTF8",
  standard_conforming_strings: "on",
  search_path: "pg_catalog",
  row_security: "off",
  statement_timeout: "0",
  lock_timeout: "0",
  idle_in_transaction_session_timeout: "0",
  idle_session_timeout: "0",
  // The server's default; the stream reports every ten seconds at the latest.
  wal_sender_timeout: "60s",
  // A stream whose sinks are all busy is not read, which this one would take for a peer that is gone.
  tcp_user_timeout: "0",
  default_transaction_read_only: "off",
  default_transaction_deferrable: "off",
  // A stricter one ends statements because of what others write, and does not exist on a standby.
  default_transaction_isolation: "read committed",
  // A mark must come back even while a synchronous standby is away.
  synchronous_commit: "local",
  // From Postgres 18 on, a missing publication only causes a warning.
  client_min_messages: "warning",
  jit: "off",
} as const;

/** By name, in place of those of all sessions. */
export type OtherSettings = Readonly<Partial<Record<keyof typeof SESSION_SETTINGS, string>>>;

/** After the login: an older server would refuse a login with a setting that it does not know. */
const TRANSACTION_TIMEOUT = "transaction_timeout";
const TRANSACTION_TIMEOUT_SINCE = 17;
/** A pooler whose sessions are all taken lets another one wait. */
const OTHER_MS_MAX = 2_000;

export function startupOptions(other: OtherSettings): string {
  return Object.entries({ ...SESSION_SETTINGS, ...other })
    .map(([name, value]) => `-c ${name}=${value.replaceAll(" ", "\\ ")}`)
    .join(" ");
}

/**
 * Completes the login. A pooler may have left out the startup options, so behind one the settings come as statements; it is
 * told by another process id than it said. `loginAgain` opens another session: one that gives both the same session of the
 * server, transaction by transaction, keeps nothing of what we set, and would leave it to other clients.
 */
export async function settle(
  client: Client & { readonly processID?: number | null },
  majorVersion: number,
  other: OtherSettings,
  loginAgain: () => Promise<Client>,
): Promise<void> {
  const hasTimeout = majorVersion >= TRANSACTION_TIMEOUT_SINCE;
  const limit = hasTimeout ? `, ${setting(TRANSACTION_TIMEOUT, "0")}` : "";
  const direct = await client.query(`SELECT 1${limit} WHERE pg_backend_pid() = ${client.processID ?? 0}`);
  if (direct.rows.length > 0) return;
  await expectOwn(client, loginAgain);
  const settings = { ...SESSION_SETTINGS, ...other, ...(hasTimeout ? { [TRANSACTION_TIMEOUT]: "0" } : {}) };
  await client.query(
    `SELECT ${Object.entries(settings)
      .map(([name, value]) => setting(name, value))
      .join(", ")}`,
  );
}

/** All are ours, and have no quotes in them. */
function setting(name: string, value: string): string {
  return `set_config('${name}', '${value}', false)`;
}

async function expectOwn(client: Client, loginAgain: () => Promise<Client>): Promise<void> {
  const before = await backendOf(client);
  const another = await loginAgain();
  try {
    const waiting = delay(OTHER_MS_MAX, undefined, { ref: false });
    const others = await Promise.race([backendOf(another), waiting]);
    if (others !== before && (await backendOf(client)) === before) return;
  } finally {
    another.connection.stream.destroy();
  }
  throw new Failure("shared", "it leads to a pooler that gives one session of the server to several clients", {
    connecting: true,
    fix: "Let the pooler keep a session for each client (pool_mode = session), or name the server itself.",
  });
}

async function backendOf(client: Client): Promise<number | undefined> {
  const { rows } = await client.query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
  return rows[0]?.pid;
}
