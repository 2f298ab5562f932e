import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import type { AuditEntry } from "../core/audit/audit-store.ts";
import type { ReportSummary } from "../core/contracts/reconciliation.ts";
import type { StatusDocument } from "../core/contracts/status.ts";
import type { DaemonView } from "../ops/dashboard/view.ts";
import { ask, setToken } from "./api.ts";

/** What the daemon last said. */
export interface Live {
  readonly status: StatusDocument | null;
  readonly view: DaemonView | null;
  readonly reports: readonly ReportSummary[];
  readonly actions: readonly AuditEntry[];
  readonly nowMs: number;
  readonly isAway: boolean;
  readonly wantsToken: boolean;
}

const LOOK_MS = 2_000;
/** Reports and actions change seldom: they are asked for at every tenth look. */
const SELDOM = 10;
const POINTS_MAX = 360;

const NOTHING: Live = {
  status: null,
  view: null,
  reports: [],
  actions: [],
  nowMs: Date.now(),
  isAway: false,
  wantsToken: false,
};

/** Asks the daemon again and again while the page is visible. */
export function useLive() {
  const [live, setLive] = useState(NOTHING);
  const view = useRef<DaemonView | null>(null);
  const looks = useRef(0);
  const look = useCallback(async (isWhole: boolean): Promise<void> => {
    const since = view.current?.history.at(-1)?.at ?? "";
    const [status, news] = await Promise.all([
      ask<StatusDocument>("GET", "/api/v1/status"),
      ask<DaemonView>("GET", `/api/v1/dashboard?since=${encodeURIComponent(since)}`),
    ]);
    const seldom = isWhole || looks.current++ % SELDOM === 0 ? await lookSeldom() : {};
    if (status.kind === "token" || news.kind === "token") {
      setLive((known) => ({ ...known, wantsToken: true }));
      return;
    }
    if (news.kind === "ok") view.current = joined(view.current, news.value);
    const isAway = status.kind !== "ok" || news.kind !== "ok";
    setLive((known) => ({
      ...known,
      ...seldom,
      status: status.kind === "ok" ? status.value : known.status,
      view: view.current,
      nowMs: Date.now(),
      isAway,
      wantsToken: false,
    }));
  }, []);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let isOver = false;
    const run = async (): Promise<void> => {
      if (!document.hidden) await look(false);
      if (!isOver) timer = setTimeout(() => void run(), LOOK_MS);
    };
    void run();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [look]);
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
  return { ...news, history: [...(known?.history ?? []), ...news.history].slice(-POINTS_MAX) };
}
