/** Transactions that are prepared (XA PREPARE) and wait for their outcome, as the server lists them. */
import { span } from "../../../../src/core/figures.ts";

/** A statement's answer; empty also if the server keeps it from our user. */
type Ask = (sql: string) => Promise<readonly (readonly (string | null)[])[]>;

export interface PreparedTransactions {
  /** As `XA COMMIT` takes them. Empty too if the user may not see them (XA_RECOVER_ADMIN). */
  readonly xids: readonly string[];
  /** Since the oldest of those began whose session is gone. Null: there is none, or the user may not see it (PROCESS). */
  readonly oldestSeconds: number | null;
}

/** InnoDB gives this to a transaction whose session is gone: it is prepared. */
export const NO_THREAD = "0";

export async function readPrepared(ask: Ask): Promise<PreparedTransactions> {
  const listed = await ask("XA RECOVER /*!80000 CONVERT XID */ /*M!100303 FORMAT = 'SQL' */");
  const [oldest] = await ask(
    `SELECT MAX(TIMESTAMPDIFF(SECOND, trx_started, SYSDATE())) FROM information_schema.innodb_trx WHERE trx_mysql_thread_id = ${NO_THREAD}`,
  );
  return {
    xids: listed.map(([format, globalLength, , data]) => xidOf(format, Number(globalLength), data ?? "")),
    oldestSeconds: oldest?.[0] == null ? null : Math.max(0, Number(oldest[0])),
  };
}

/** With its age, where the server tells which one is that old. */
export function namedPrepared(xid: string, { oldestSeconds, xids }: PreparedTransactions): string {
  const age = oldestSeconds === null ? "" : span(oldestSeconds * 1_000);
  if (age === "") return `the prepared transaction ${xid}`;
  return `the prepared transaction ${xid} (${xids.length === 1 ? `begun ${age} ago, its session is gone` : `the oldest of ${xids.length} began ${age} ago`})`;
}

export function endPrepared(xid: string): string {
  return `XA COMMIT ${xid}; or XA ROLLBACK ${xid};`;
}

/** MySQL gives the two parts of the name in hexadecimal digits, behind 0x; MariaDB gives it as statements take it. */
function xidOf(format: string | null | undefined, globalLength: number, data: string): string {
  if (!/^0x/i.test(data)) return data;
  const digits = data.slice(2);
  const [global, branch] = [digits.slice(0, globalLength * 2), digits.slice(globalLength * 2)];
  return `${asText(global)}, ${asText(branch)}, ${Number(format ?? 1)}`;
}

/** A literal that XA COMMIT takes, which knows none with a character set in front. */
function asText(hex: string): string {
  const text = Buffer.from(hex, "hex").toString("latin1");
  return /^[\w .:;,@/+=-]*$/.test(text) ? `'${text}'` : `X'${hex}'`;
}
