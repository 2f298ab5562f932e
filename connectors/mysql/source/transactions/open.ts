/** Who holds the server up: the oldest open transaction, and those that are prepared (XA PREPARE) and wait for their outcome. */
import type { SourceContext } from "../context.ts";
import { errorNumber } from "../errors.ts";
import { quoteText } from "../../quote.ts";
import { findMillraceError } from "../../../../src/core/errors.ts";

export interface OpenTransactions {
  /** Null: the user may not see it (PROCESS), or there is none. */
  readonly oldest: { readonly thread: string; readonly seconds: number } | null;
  /** As `XA COMMIT` takes them. Empty too if the user may not see them (XA_RECOVER_ADMIN). */
  readonly prepared: readonly string[];
}

const REFUSED = new Set([1044, 1142, 1227, 1401]);
/** InnoDB gives this to a transaction whose session is gone: it is prepared. */
const NO_THREAD = "0";
const PREPARED_NAMED_MAX = 5;

export async function readOpen(context: SourceContext, signal: AbortSignal): Promise<OpenTransactions> {
  const [trx] = await rows(
    context,
    "SELECT trx_mysql_thread_id, TIMESTAMPDIFF(SECOND, trx_started, SYSDATE()) FROM information_schema.innodb_trx WHERE trx_mysql_thread_id <> CONNECTION_ID() ORDER BY trx_started LIMIT 1",
    signal,
  );
  const xa = await rows(context, "XA RECOVER /*!80000 CONVERT XID */ /*M!100303 FORMAT = 'SQL' */", signal);
  return {
    oldest: trx === undefined ? null : { thread: trx[0] ?? NO_THREAD, seconds: Math.max(0, Number(trx[1] ?? 0)) },
    prepared: xa.map(([format, globalLength, , data]) => xidOf(format, Number(globalLength), data ?? "")),
  };
}

/** MySQL gives the two parts of the name in hexadecimal digits, behind 0x; MariaDB gives it as statements take it. */
function xidOf(format: string | null | undefined, globalLength: number, data: string): string {
  if (!/^0x/i.test(data)) return data;
  const digits = data.slice(2);
  const [global, branch] = [digits.slice(0, globalLength * 2), digits.slice(globalLength * 2)];
  return `${asText(global)}, ${asText(branch)}, ${Number(format ?? 1)}`;
}

function asText(hex: string): string {
  const bytes = Buffer.from(hex, "hex");
  return bytes.every((byte) => byte >= 0x20 && byte < 0x7f) ? quoteText(bytes.toString("latin1")) : `X'${hex}'`;
}

/** What an operator should know of them; `oldSeconds`: from which age on. */
export function openHints({ oldest, prepared }: OpenTransactions, oldSeconds: number): string[] {
  const hints: string[] = [];
  if (oldest !== null && oldest.seconds > oldSeconds && oldest.thread !== NO_THREAD)
    hints.push(
      `session ${oldest.thread} has had a transaction open for ${Math.floor(oldest.seconds / 60)} min: end it there, or by KILL ${oldest.thread}`,
    );
  for (const xid of prepared.slice(0, PREPARED_NAMED_MAX))
    hints.push(
      `the prepared transaction ${xid} waits for its outcome and holds its locks: XA COMMIT ${xid}; or XA ROLLBACK ${xid};`,
    );
  if (prepared.length > PREPARED_NAMED_MAX)
    hints.push(`${prepared.length - PREPARED_NAMED_MAX} further prepared transactions wait: XA RECOVER lists them`);
  return hints;
}

async function rows(
  { database }: SourceContext,
  sql: string,
  signal: AbortSignal,
): Promise<readonly (readonly (string | null)[])[]> {
  try {
    return await database.rows("looking for open transactions", sql, signal);
  } catch (error) {
    if (REFUSED.has(errorNumber(findMillraceError(error)?.cause ?? error) ?? 0)) return [];
    throw error;
  }
}
