/** Pages of one thing, by the address's hash: `#/sink/warehouse`. They show the overview's parts with what concerns it. */
import { useEffect, useState } from "preact/hooks";
import type { Condition, Verdict } from "../core/conditions/condition.ts";
import type { StatusDocument } from "../core/contracts/status.ts";
import type { DaemonView, HistoryPoint } from "../ops/dashboard/view.ts";
import { many } from "./format.ts";
import type { Live } from "./live.ts";

const KINDS = ["sink", "table", "report"] as const;

export interface Focus {
  readonly kind: (typeof KINDS)[number];
  readonly name: string;
}

export function pageOf(kind: Focus["kind"], name: string): string {
  return `#/${kind}/${encodeURIComponent(name)}`;
}

/** Null: the overview, or a place in it. */
function focusOf(hash: string): Focus | null {
  const [, word, name] = /^#\/([a-z]+)\/(.+)$/s.exec(hash) ?? [];
  const kind = KINDS.find((each) => each === word);
  if (kind === undefined || name === undefined) return null;
  try {
    return { kind, name: decodeURIComponent(name) };
  } catch {
    return null;
  }
}

/** What the address leads to. After each change its beginning is seen, and heard. */
export function useFocus(): Focus | null {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const follow = () => setHash(location.hash);
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  const focus = focusOf(hash);
  useEffect(() => {
    if (focus === null) document.getElementById(decodedPlace(hash))?.scrollIntoView();
    else {
      scrollTo(0, 0);
      document.getElementById("main")?.focus({ preventScroll: true });
    }
  }, [hash]);
  return focus;
}

function decodedPlace(hash: string): string {
  try {
    return decodeURIComponent(hash.slice(1));
  } catch {
    return "";
  }
}

/** What the daemon said, without what does not concern this sink or table. */
export function narrowed(live: Live, { kind, name }: Focus): Live {
  const { status, view, actions } = live;
  if (status === null || view === null) return live;
  const isOf = ({ sink = null, table = null }: { readonly sink?: string | null; readonly table?: string | null }) =>
    kind === "sink" ? sink === null || sink === name : table === name;
  const conditions = status.conditions.filter((condition) => condition[kind === "sink" ? "sink" : "table"] === name);
  return {
    ...live,
    status: {
      ...status,
      conditions,
      verdict: verdictOf(conditions, name),
      sinks: status.sinks.filter((sink) => kind !== "sink" || sink.name === name),
      tables: tablesOf(status, isOf),
    },
    view: {
      ...view,
      history: view.history.map((point) => pointOf(point, kind === "sink" ? name : null)),
      day: view.day.map((point) => pointOf(point, kind === "sink" ? name : null)),
      tables: view.tables.flatMap((table) => {
        const sinks = kind === "sink" ? table.sinks.filter(({ sink }) => sink === name) : table.sinks;
        return (kind === "sink" ? sinks.length > 0 : table.table === name) ? [{ ...table, sinks }] : [];
      }),
      reads: view.reads.filter(({ sink, tableId: table }) => isOf({ sink, table })),
      deadLetters: view.deadLetters.filter(isOf),
      letterGroups: view.letterGroups.filter(isOf),
    },
    actions: actions.filter(({ subject }) => Object.values(subject).flat().includes(name)),
  };
}

function verdictOf(conditions: readonly Condition[], name: string): Verdict {
  const waiting = conditions.filter(({ level }) => level === "act").length;
  if (waiting === 0)
    return { kind: conditions.length === 0 ? "well" : "watch", headline: `what to know about ${name}` };
  return { kind: "act", headline: `${many(waiting, "thing")} about ${name} ${waiting === 1 ? "needs" : "need"} you` };
}

function tablesOf(
  { tables }: StatusDocument,
  isOf: (place: { readonly sink?: string | null; readonly table?: string | null }) => boolean,
): StatusDocument["tables"] {
  const { refused, unreadable, suspended, pending, stubborn } = tables;
  return {
    ...tables,
    refused: refused.filter(isOf),
    unreadable: unreadable.filter(isOf),
    suspended: suspended.filter(isOf),
    pending: pending.filter(isOf),
    stubborn: stubborn.filter(isOf),
  };
}

function pointOf(point: HistoryPoint, sink: string | null): DaemonView["history"][number] {
  return sink === null ? point : { ...point, sinks: point.sinks.filter(({ name }) => name === sink) };
}
