import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import type { AuditEntry } from "../core/audit/audit-store.ts";
import type { ReportSummary } from "../core/contracts/reconciliation.ts";
import type { StatusDocument } from "../core/contracts/status.ts";
import type { DaemonView } from "../ops/dashboard/view.ts";
import { type Answer, ask, setToken } from "./api.ts";

/** Why the daemon is not heard. */
export interface Away {
  readonly why: string;
  /** Of its last answer. */
  readonly since: string;
}

/** What the daemon last said. */
export interface Live {
  readonly status: StatusDocument | null;
  readonly view: DaemonView | null;
  readonly reports: readonly ReportSummary[];
  readonly actions: readonly AuditEntry[];
  readonly nowMs: number;
  /** Null: the daemon answers. */
  readonly away: Away | null;
  readonly wantsToken: boolean;
}

const LOOK_MS = 2_000;
/** A daemon that is well answers in milliseconds. */
const SILENT_MS_MAX = 6_000;
/** Actions change seldom: they are asked for at every tenth look, and with them the reports, unless a comparison has ended. */
const SELDOM = 10;
const POINTS_MAX = 360;
const DAY_POINTS_MAX = 720;

const NOTHING: Live = {
  status: null,
  view: null,
  reports: [],
  actions: [],
  nowMs: Date.now(),
  away: null,
  wantsToken: false,
};

/** Of the page's questions. */
interface Heard {
  /** Of the last complete answer. */
  atMs: number;
  /** The page asks since then: hidden pages do not. */
  askedMs: number;
  /** Why the newest question got none. */
  why: string | null;
}

/** Asks the daemon again and again while the page is visible. */
export function useLive() {
  const [live, setLive] = useState(NOTHING);
  const view = useRef<DaemonView | null>(null);
  const looks = useRef(0);
  const newest = useRef<string | null>(null);
  const heard = useRef<Heard>({ atMs: Date.now(), askedMs: Date.now(), why: null });
  const tell = useCallback((news: Partial<Live>): void => {
    const nowMs = Date.now();
    setLive((known) => ({ ...known, ...news, nowMs, away: awayOf(heard.current, nowMs) }));
  }, []);
  const look = useCallback(async (isWhole: boolean): Promise<void> => {
    const since = view.current?.history.at(-1)?.at ?? "";
    const [status, news] = await Promise.all([
      ask<StatusDocument>("GET", "/api/v1/status"),
      ask<DaemonView>("GET", `/api/v1/dashboard?since=${encodeURIComponent(since)}`),
    ]);
    if (status.kind === "token" || news.kind === "token") {
      tell({ wantsToken: true });
      return;
    }
    if (news.kind === "ok") view.current = joined(view.current, news.value);
    heard.current.why = troubleOf(status) ?? troubleOf(news);
    if (heard.current.why === null) heard.current.atMs = Date.now();
    tell({
      ...(status.kind === "ok" ? { status: status.value } : {}),
      view: view.current,
      wantsToken: false,
    });
    const last = status.kind === "ok" ? (status.value.reconcile.last?.id ?? null) : newest.current;
    const isDue = isWhole || last !== newest.current || looks.current++ % SELDOM === 0;
    const seldom = isDue ? lookSeldom().then(tell) : undefined;
    newest.current = last;
    if (isWhole) await seldom;
  }, []);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isOver = false;
    const run = async (): Promise<void> => {
      if (!document.hidden) await look(false);
      if (!isOver) timer = setTimeout(() => void run(), LOOK_MS);
    };
    void run();
    // A question may stay without an answer for long.
    const ticking = setInterval(() => tell({}), 1_000);
    const onShown = (): void => {
      heard.current.askedMs = Date.now();
      if (!document.hidden) void look(false);
    };
    document.addEventListener("visibilitychange", onShown);
    return () => {
      isOver = true;
      clearTimeout(timer);
      clearInterval(ticking);
      document.removeEventListener("visibilitychange", onShown);
    };
  }, [look, tell]);
  const refresh = useCallback(() => look(true), [look]);
  const signIn = useCallback(
    (token: string) => {
      setToken(token);
      void look(true);
    },
    [look],
  );
  return { live, refresh, signIn };
}

function awayOf({ atMs, askedMs, why }: Heard, nowMs: number): Away | null {
  if (why === null && nowMs - Math.max(atMs, askedMs) <= SILENT_MS_MAX) return null;
  return { why: why ?? "It has said nothing", since: new Date(atMs).toISOString() };
}

function troubleOf(answer: Answer<unknown>): string | null {
  if (answer.kind === "refused") return `It answers with ${answer.code} ${answer.message}`;
  return answer.kind === "away" ? "It can't be reached" : null;
}

async function lookSeldom(): Promise<Partial<Live>> {
  const [reports, actions] = await Promise.all([
    ask<{ reports: readonly ReportSummary[] }>("GET", "/api/v1/reports"),
    ask<{ entries: readonly AuditEntry[] }>("GET", "/api/v1/audit?limit=20"),
  ]);
  return {
    ...(reports.kind === "ok" ? { reports: reports.value.reports } : {}),
    ...(actions.kind === "ok" ? { actions: actions.value.entries } : {}),
  };
}

/** The daemon sends only points that the page does not have. */
function joined(known: DaemonView | null, news: DaemonView): DaemonView {
  return {
    ...news,
    history: [...(known?.history ?? []), ...news.history].slice(-POINTS_MAX),
    day: [...(known?.day ?? []), ...news.day].slice(-DAY_POINTS_MAX),
  };
}
