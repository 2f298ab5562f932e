import { useCallback, useEffect, useMemo, useState } from "preact/hooks";
import { ActingContext, type Order } from "./act.tsx";
import { ask, hasToken, setToken } from "./api.ts";
import { type Live, useLive } from "./live.ts";
import { Actions } from "./parts/actions.tsx";
import { Attention, VERDICT_LOOKS } from "./parts/attention.tsx";
import { Charts } from "./parts/charts.tsx";
import { Documents } from "./parts/documents.tsx";
import { Flow } from "./parts/flow.tsx";
import { Letters } from "./parts/letters.tsx";
import { Login } from "./parts/login.tsx";
import { Offsets } from "./parts/offsets.tsx";
import { Proof } from "./parts/proof.tsx";
import { Reads, runningCopy } from "./parts/reads.tsx";
import { Sinks } from "./parts/sinks.tsx";
import { Tables } from "./parts/tables.tsx";
import { Tiles } from "./parts/tiles.tsx";
import { ThemeButton } from "./theme.tsx";

const PARTS = [
  ["charts", "Charts"],
  ["sinks", "Sinks"],
  ["documents", "Documents"],
  ["tables", "Tables"],
  ["reads", "Reads"],
  ["letters", "Dead letters"],
  ["proof", "Proof"],
  ["offsets", "Offsets"],
  ["actions", "Actions"],
] as const;

const WHY = {
  viewer: "This token may look, not act",
  nobody: "Without admin.tokens this address only shows. The command line can act.",
};

interface Said {
  readonly text: string;
  readonly isError: boolean;
}

export function App() {
  const { live, signIn, refresh } = useLive();
  const [said, setSaid] = useState<Said | null>(null);
  useEffect(() => {
    if (said === null || said.isError) return undefined;
    const timer = setTimeout(() => setSaid(null), 6_000);
    return () => clearTimeout(timer);
  }, [said]);
  const role = live.view?.role ?? "nobody";
  const send = useCallback(
    async ({ method = "POST", path, body, done }: Order) => {
      const answer = await ask<object>(method, path, body);
      if (answer.kind === "ok") setSaid({ text: done, isError: false });
      else if (answer.kind === "refused")
        setSaid({ text: [`${answer.code} ${answer.message}`, answer.hint].filter(Boolean).join(" – "), isError: true });
      else setSaid({ text: "The daemon did not answer.", isError: true });
      await refresh();
    },
    [refresh],
  );
  const mayAct = role === "operator";
  const why = role === "viewer" ? WHY.viewer : WHY.nobody;
  const acting = useMemo(() => ({ mayAct, why, send }), [mayAct, why, send]);
  if (live.wantsToken) return <Login isWrong={hasToken()} onToken={signIn} />;
  return (
    <ActingContext.Provider value={acting}>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <Header live={live} />
      <Body live={live} hint={mayAct ? null : why} />
      <div class={`said ${said?.isError === true ? "bad" : ""}`} role="status" hidden={said === null}>
        <span>{said?.text}</span>
        {said !== null && (
          <button type="button" onClick={() => setSaid(null)} aria-label="Close the message">
            ×
          </button>
        )}
      </div>
    </ActingContext.Provider>
  );
}

function Header({ live: { status, away } }: { readonly live: Live }) {
  const phase = status?.phase ?? "…";
  const look = away !== null ? "bad" : status === null ? "warning" : VERDICT_LOOKS[status.verdict.kind];
  useEffect(() => {
    if (status !== null) document.title = `${status.name} · Millrace`;
  }, [status?.name]);
  return (
    <header class="top">
      <div class="bar">
        <span class="brand">
          <svg viewBox="0 0 24 24" aria-hidden="true">
            <path d="M2 8c3-3 6-3 10 0s7 3 10 0M2 14c3-3 6-3 10 0s7 3 10 0M2 20c3-3 6-3 10 0s7 3 10 0" />
          </svg>
          Millrace
        </span>
        <h1>
          <bdi>{status?.name ?? ""}</bdi>
        </h1>
        <span class={`pill ${look}`}>{away === null ? phase : "away"}</span>
        <span class="room" />
        {hasToken() && (
          <button
            type="button"
            onClick={() => {
              setToken(null);
              location.reload();
            }}
          >
            Sign out
          </button>
        )}
        <ThemeButton />
      </div>
      <nav aria-label="Parts of the page">
        {PARTS.filter(([id]) => id !== "documents" || status?.documents !== undefined).map(([id, name]) => (
          <a key={id} href={`#${id}`}>
            {name}
          </a>
        ))}
      </nav>
    </header>
  );
}

function Body({ live, hint }: { readonly live: Live; readonly hint: string | null }) {
  const { status, view, reports, actions, nowMs, away } = live;
  if (status === null || view === null) {
    return (
      <main id="main">
        <p class="card soft">{away === null ? "Loading …" : "The daemon does not answer. The page asks again."}</p>
      </main>
    );
  }
  const { documents = [], source } = status;
  // What is read now is on top, with its end in sight.
  const isReading = view.reads.length > 0 || runningCopy(source) !== null;
  const reads = <Reads status={status} reads={view.reads} nowMs={nowMs} />;
  return (
    <main id="main" tabIndex={-1}>
      <Attention status={status} away={away} nowMs={nowMs} />
      <Flow status={status} view={view} />
      {isReading && reads}
      <Tiles status={status} view={view} nowMs={nowMs} />
      {hint !== null && <p class="hint soft">{hint}</p>}
      <Charts view={view} nowMs={nowMs} />
      <Sinks status={status} />
      {documents.length > 0 && <Documents documents={documents} nowMs={nowMs} />}
      <Tables status={status} tables={view.tables} nowMs={nowMs} />
      {!isReading && reads}
      <Letters groups={view.letterGroups} letters={view.deadLetters} nowMs={nowMs} />
      <Proof status={status} reports={reports} nowMs={nowMs} />
      <Offsets status={status} />
      <Actions entries={actions} nowMs={nowMs} />
      <footer class="soft">
        process {status.daemon?.pid ?? "–"}, started {status.daemon?.startedAt.slice(0, 19).replace("T", " ") ?? "–"}{" "}
        UTC
      </footer>
    </main>
  );
}
