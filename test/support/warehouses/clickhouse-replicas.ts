/** Replicas before one engine: what a balancer in front of several ClickHouse servers can answer. */
import type { HttpGateway, Reply } from "../network/http-gateway.ts";
import { clickhouseUrl } from "../run/services.ts";
import { clickhouseGateway, refusal, type Statement } from "./clickhouse-gateway.ts";

const DONE = { status: 200, headers: { "x-clickhouse-summary": "{}" }, body: Buffer.alloc(0) };
const CODES = { behind: 159, noSession: 372 } as const;
const READS = /^(?:WITH|SELECT) (?!revision|tables)[^]* FROM `public`/;
const REWRITES = /^INSERT INTO[^]*SELECT[^]* FROM `public`/;
/** Of tables and columns, of checkpoints, and of what the sink saw last. */
const LISTS = /^SELECT[^]* FROM (?:system\.(?:tables|columns)|`millrace`\.`\w+`)/;

/** What was answered to the same statements before. */
export class FormerAnswers {
  readonly #answers = new Map<string, Reply>();

  /** Undefined: the statement was never asked. */
  to({ sql }: Statement): Reply | undefined {
    return this.#answers.get(sql);
  }

  keep({ sql }: Statement, { status, headers, body }: Reply): void {
    // The statement that gets it has another id.
    const { "x-clickhouse-query-id": _, ...others } = headers;
    this.#answers.set(sql, { status, headers: others, body });
  }
}

interface ReplicasState {
  /** The second has no rows until it catches up. */
  isBehind: boolean;
  /** In lists no table has rows. */
  hidesRows: boolean;
  /** Answers of a replica that was behind. */
  answersBehind: number;
  syncs: number;
  readonly settings: URLSearchParams[];
}

/**
 * Two replicas before one engine, with tables that the catalogue calls replicated. Reads of rows go to the two in turn, to the
 * second first. `isOld`: whether a list is answered as it was remembered; `keeps`: whether it is remembered as it is now.
 */
export async function clickhouseReplicas(
  options: { readonly catchesUp?: boolean; readonly isOld?: () => boolean; readonly keeps?: () => boolean } = {},
): Promise<HttpGateway & { readonly state: ReplicasState }> {
  const { catchesUp = true, isOld = () => false, keeps = () => false } = options;
  const state: ReplicasState = {
    isBehind: false,
    hidesRows: false,
    answersBehind: 0,
    syncs: 0,
    settings: [],
  };
  const sessions = [new Set<string>(), new Set<string>()];
  const former = new FormerAnswers();
  let [turn, syncTurn] = [1, 0];
  const sync = async (settings: URLSearchParams): Promise<Reply> => {
    state.syncs++;
    const replica = syncTurn++ % 2;
    if (replica === 1 && !catchesUp)
      return refusal(CODES.behind, "SYNC REPLICA users: command timed out. (TIMEOUT_EXCEEDED)");
    if (replica === 1) state.isBehind = false;
    sessions[replica]!.add(settings.get("session_id")!);
    return DONE;
  };
  const read = async ({ settings, pass }: Statement): Promise<Reply> => {
    state.settings.push(settings);
    const replica = turn++ % 2;
    const isChecked = settings.get("session_check") === "1";
    if (isChecked && !sessions[replica]!.has(settings.get("session_id")!))
      return refusal(CODES.noSession, "Session not found. (SESSION_NOT_FOUND)");
    if (replica === 0 || !state.isBehind) return await pass();
    state.answersBehind++;
    return DONE;
  };
  const list = async (statement: Statement): Promise<Reply> => {
    const old = former.to(statement);
    const session = statement.settings.get("session_id") ?? "";
    if (old !== undefined && isOld() && !sessions.some((one) => one.has(session))) {
      state.answersBehind++;
      return old;
    }
    const reply = await statement.pass();
    const body = reply.body.toString("latin1").replaceAll('"ReplacingMergeTree', '"ReplicatedReplacingMergeTree');
    // Of `total_rows > 0`.
    const shown = state.hidesRows ? body.replaceAll(/\b1(,\s*[01],\s*"Repl)/g, "0$1") : body;
    const answer = { ...reply, body: Buffer.from(shown, "latin1") };
    if (old === undefined || keeps()) former.keep(statement, answer);
    return answer;
  };
  const gateway = await clickhouseGateway(clickhouseUrl(), async (statement) => {
    const { sql, settings, pass } = statement;
    // A test's own look at the engine.
    if (!settings.has("query_id")) return await pass();
    if (/^SYSTEM SYNC REPLICA `(?:public|millrace)`\.`\w+` LIGHTWEIGHT/.test(sql)) return await sync(settings);
    if (READS.test(sql) || REWRITES.test(sql)) return await read(statement);
    return LISTS.test(sql) ? await list(statement) : await pass();
  });
  return { ...gateway, state };
}
