/** Who keeps a statement of ours waiting for a table: named in errors, so that a person can act. */
import type { TableName } from "../../../../src/core/contracts/connector.ts";
import { findMillraceError } from "../../../../src/core/errors.ts";
import { span } from "../../../../src/core/figures.ts";
import { heldBy, type LockHolders, shownStatement } from "../../../kit/lock-holders.ts";
import { quoteAccount, quoteText } from "../../quote.ts";
import { answered, type Server } from "../wire/server.ts";
import type { Session } from "../wire/driver.ts";
import { errorNumber, isLockWait } from "../errors.ts";
import { endPrepared, namedPrepared, type PreparedTransactions, readPrepared } from "../wire/prepared-transactions.ts";

const ASKING_MS_MAX = 3_000;
/** Of those that hold the table; more do not help to act. */
const HOLDERS_MAX = 2;

interface Holder {
  /** Null: a prepared transaction, which has no session. */
  readonly connection: string | null;
  readonly user: string | null;
  readonly host: string | null;
  readonly isIdle: boolean;
  readonly seconds: string | null;
  /** The seconds are those of its transaction. */
  readonly isTransaction: boolean;
  readonly statement: string | null;
  /** It waits for the table itself, and keeps all others behind it. */
  readonly waits: boolean;
  /** Its lock alone keeps everybody from reading. */
  readonly isExclusive: boolean;
}

/** What the lists below have of each session, in this order. */
function holderIn(row: readonly (string | null)[]): Holder {
  const [connection, user, host, command, seconds, isTransaction, statement, waits, isExclusive] = row;
  return {
    connection: connection ?? null,
    user: user ?? null,
    host: host ?? null,
    isIdle: command === "Sleep",
    seconds: seconds ?? null,
    isTransaction: isTransaction === "1",
    statement: statement ?? null,
    waits: waits === "1",
    isExclusive: isExclusive === "1",
  };
}

const EXCLUSIVE = "'EXCLUSIVE', 'SHARED_NO_READ_WRITE', 'MDL_EXCLUSIVE', 'MDL_SHARED_NO_READ_WRITE'";
/** Those who wait only to read or write keep nobody from reading. */
const HARMLESS = "'INTENTION_EXCLUSIVE', 'SHARED', 'SHARED_HIGH_PRIO', 'SHARED_READ', 'SHARED_WRITE'";

/** FLUSH TABLES, which waits for a statement that reads the table, holds back all that begin after it. */
function inPerformanceSchema(schema: string, table: string): string {
  return `SELECT t.processlist_id, t.processlist_user, t.processlist_host, t.processlist_command,
      COALESCE(x.timer_wait DIV 1000000000000, t.processlist_time), x.timer_wait IS NOT NULL, COALESCE(t.processlist_info, s.sql_text),
      MAX(l.lock_status = 'PENDING' OR l.object_type = 'GLOBAL'), MAX(l.lock_status = 'GRANTED' AND l.lock_type IN (${EXCLUSIVE}))
    FROM performance_schema.metadata_locks l LEFT JOIN performance_schema.threads t ON t.thread_id = l.owner_thread_id
      LEFT JOIN performance_schema.events_transactions_current x ON x.thread_id = l.owner_thread_id AND x.state = 'ACTIVE'
      LEFT JOIN performance_schema.events_statements_current s ON s.thread_id = l.owner_thread_id AND s.nesting_event_level = 0
    WHERE (l.lock_status = 'GRANTED' OR l.lock_type NOT IN (${HARMLESS})) AND COALESCE(t.processlist_id, 0) <> CONNECTION_ID()
      AND (l.object_type = 'TABLE' AND l.object_schema = ${schema} AND l.object_name = ${table}
        OR l.object_type = 'SCHEMA' AND l.object_schema = ${schema} AND l.lock_type = 'EXCLUSIVE'
        OR l.object_type = 'GLOBAL' AND l.lock_type = 'SHARED' AND t.processlist_state LIKE 'Waiting for%')
    GROUP BY l.owner_thread_id LIMIT 1000`;
}

const OF_SESSION = `p.id, p.user, p.host, p.command, COALESCE(TIMESTAMPDIFF(SECOND, x.trx_started, SYSDATE()), p.time), x.trx_started IS NOT NULL, p.info`;
const TRANSACTIONS = "LEFT JOIN information_schema.innodb_trx x ON x.trx_mysql_thread_id = p.id";
const HOLDS_BACK =
  "(p.state LIKE 'Waiting for table%' AND p.info REGEXP '^[[:space:]]*(ALTER|CREATE|DROP|FLUSH|LOCK|OPTIMIZE|RENAME|REPAIR|TRUNCATE)')";

/** MariaDB's plugin, which shows granted locks alone. */
function inPlugin(schema: string, table: string): string {
  return `SELECT ${OF_SESSION}, MAX(${HOLDS_BACK}), MAX(l.lock_mode IN (${EXCLUSIVE}))
    FROM information_schema.metadata_lock_info l JOIN information_schema.processlist p ON p.id = l.thread_id ${TRANSACTIONS}
    WHERE l.table_schema = ${schema} AND l.table_name = ${table} AND p.id <> CONNECTION_ID() GROUP BY p.id LIMIT 1000`;
}

/** Whose transaction is open, or who stands idle in the table's database; not those who read, as we do. */
function candidates(schema: string): string {
  return `SELECT ${OF_SESSION}, ${HOLDS_BACK}, 0
    FROM information_schema.processlist p ${TRANSACTIONS}
    WHERE p.id <> CONNECTION_ID() AND (${HOLDS_BACK} OR (x.trx_started IS NOT NULL OR p.db = ${schema} AND p.command = 'Sleep')
      AND NOT (p.user = SUBSTRING_INDEX(USER(), '@', 1) AND p.command <> 'Sleep')) LIMIT 1000`;
}

/** What is read of a table; the error of a lock on it that was not to be had says who holds it. */
export async function namingHolders<T>(
  server: Server,
  table: TableName,
  reading: Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  try {
    return await reading;
  } catch (error) {
    throw await withHolders(error, server, table, signal);
  }
}

export async function withHolders(
  error: unknown,
  server: Server,
  table: TableName,
  signal: AbortSignal,
): Promise<unknown> {
  if (findMillraceError(error) === undefined) return error;
  const known = server.failed(error, "reading the table");
  if (!isLockWait(known) || signal.aborted) return known;
  const holders = await lockHolders(server, table, signal);
  return holders === null ? error : heldBy(known, holders);
}

/** Asks over a connection of its own: those that wait can't be used. Null: not known. */
export async function lockHolders(server: Server, table: TableName, signal: AbortSignal): Promise<LockHolders | null> {
  const until = AbortSignal.any([signal, AbortSignal.timeout(ASKING_MS_MAX)]);
  let session: Session | undefined;
  try {
    session = await server.open(until);
    return await answered(found(session, table), "asking who holds a lock", until);
  } catch {
    // The error that is to be explained says enough.
    return null;
  } finally {
    session?.destroy();
  }
}

/** The server does not have such a table, or keeps it from our user. */
const UNSEEN: ReadonlySet<number> = new Set([1044, 1109, 1142, 1146, 1227, 1401]);

async function found(session: Session, { schema, table }: TableName): Promise<LockHolders | null> {
  const names = [quoteText(schema), quoteText(table)] as const;
  const [facts = []] = await session.query("SELECT @@performance_schema, VERSION(), CURRENT_USER()");
  const [isMeasured, version, account] = facts;
  let isHidden = false;
  const ask = async (sql: string): Promise<readonly (readonly (string | null)[])[]> => {
    try {
      return await session.query(sql);
    } catch (error) {
      if (!UNSEEN.has(errorNumber(error) ?? 0)) throw error;
      isHidden = true;
      return [];
    }
  };
  const list = async (sql: string): Promise<Holder[]> => (await ask(sql)).map(holderIn);
  const prepared = await readPrepared(ask);
  const shown = isMeasured === "1" ? await list(inPerformanceSchema(...names)) : [];
  const exact = shown.length > 0 ? shown : await list(inPlugin(...names));
  if (exact.some(({ waits }) => !waits)) return told(exact, prepared, null);
  isHidden = false;
  // Without the privilege PROCESS others' sessions are no error.
  await list("SELECT trx_id FROM information_schema.innodb_trx LIMIT 1");
  const maybe = await list(candidates(names[0]));
  if (prepared.xids.length > 0 && prepared.oldestSeconds !== null) maybe.push(holderIn([]));
  const isMariadb = /mariadb/i.test(version ?? "");
  const isListed = isMeasured === "1" && !isMariadb;
  const privilege = isListed ? "SELECT ON performance_schema.*" : "PROCESS ON *.*";
  const grant = `GRANT ${privilege} TO ${quoteAccount(account ?? "")};`;
  if (!isHidden && isMariadb) return told(maybe, prepared, "INSTALL SONAME 'metadata_lock_info';");
  if (!isHidden)
    return told(maybe, prepared, isListed ? grant : "performance_schema = ON in the server's configuration file");
  return {
    what: "who holds it is hidden from our user",
    fix: `${grant} lets Millrace name it; SHOW FULL PROCESSLIST shows it to an administrator. Millrace tries again by itself.`,
  };
}

/** `certain`: the statement with which they would be known for certain; null: they are. */
function told(all: readonly Holder[], prepared: PreparedTransactions, certain: string | null): LockHolders | null {
  const waiting = all.filter(({ waits }) => waits);
  const others = all.filter(({ waits }) => !waits);
  const exclusive = others.filter(({ isExclusive }) => isExclusive);
  const holders = (exclusive.length > 0 ? exclusive : others)
    .toSorted((a, b) => Number(b.isTransaction) - Number(a.isTransaction) || Number(b.seconds) - Number(a.seconds))
    .slice(0, HOLDERS_MAX);
  const [holder] = holders;
  if (holder === undefined) return null;
  const what = [
    ...holders.map((one) => `${named(one, prepared)} ${certain === null ? "holds it" : "may hold it"}`),
    ...waiting.slice(0, 1).map((one) => `${named(one, prepared)} waits for it too`),
  ];
  const { connection } = holder;
  const [xid] = prepared.xids;
  // MariaDB: an ALTER that has the table already may wait for rows that such a transaction has changed.
  const behind = xid !== undefined && prepared.oldestSeconds !== null && connection !== null && !holder.isIdle;
  if (behind) what.push(`${namedPrepared(xid, prepared)} may hold that up`);
  const end =
    connection === null || behind
      ? `End it: ${xid === undefined ? "XA RECOVER lists it;" : endPrepared(xid)}`
      : `End its transaction, or its lock, where it was begun, or by KILL ${connection};`;
  const fix = certain === null ? end : `If it is the one: ${end} ${certain} lets Millrace know it for certain.`;
  return { what: what.join("; "), fix: `${fix} Millrace tries again by itself.` };
}

function named(holder: Holder, prepared: PreparedTransactions): string {
  const { connection, user, host, isIdle, seconds, isTransaction, statement } = holder;
  const [xid] = prepared.xids;
  if (connection === null) return xid === undefined ? "a prepared transaction" : namedPrepared(xid, prepared);
  const age = seconds === null ? null : span(Number(seconds) * 1_000);
  const parts = [
    ...(user === null ? [] : [`user ${user}${host === null ? "" : ` from ${host}`}`]),
    ...(age === null
      ? []
      : [isTransaction ? `its transaction is ${age} old` : isIdle ? `idle for ${age}` : `for ${age}`]),
    ...(isTransaction && isIdle ? ["idle in transaction"] : []),
    ...(statement === null
      ? []
      : [`${isIdle ? "last statement" : "statement"}: ${shownStatement(statement, "texts")}`]),
  ];
  return `connection ${connection} (${parts.join(", ")})`;
}
