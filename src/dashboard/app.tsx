import { useCallback, useEffect, useMemo, useState } from "preact/hooks";
import { ActingContext, type Order } from "./act.tsx";
import { ask, hasToken, setToken } from "./api.ts";
import { type Focus, narrowed, useFocus } from "./focus.ts";
import { sentence } from "./format.ts";
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
import { Report } from "./parts/report.tsx";
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
  const focus = useFocus();
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
      <a
        class="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault();
          document.getElementById("main")?.focus();
        }}
      >
        Skip to the content
      </a>
      <Header live={live} focus={focus} />
      {focus === null ? (
        <Overview live={live} hint={mayAct ? null : why} />
      ) : (
        <Page key={`${focus.kind} ${focus.name}`} live={live} focus={focus} />
      )}
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

function Header({ live: { status, away }, focus }: { readonly live: Live; readonly focus: Focus | null }) {
  const phase = status?.phase ?? "…";
  const look = away !== null ? "bad" : status === null ? "warning" : VERDICT_LOOKS[status.verdict.kind];
  useEffect(() => {
    const page = focus === null ? [] : [focus.name];
    if (status !== null) document.title = [...page, status.name, "Millrace"].join(" · ");
  }, [status?.name, focus?.name]);
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

function Silent({ away }: Pick<Live, "away">) {
  return (
    <main id="main">
      <p class="card soft">{away === null ? "Loading …" : "The daemon does not answer. The page asks again."}</p>
    </main>
  );
}

/** One sink, table or report: the parts of the overview, with what concerns it. */
function Page({ live, focus }: { readonly live: Live; readonly focus: Focus }) {
  const { kind, name } = focus;
  const { status, view, actions, nowMs, away } = narrowed(live, focus);
  if (status === null || view === null) return <Silent away={away} />;
  const isKnown =
    kind === "report" ||
    (kind === "sink" ? status.sinks.length > 0 : view.tables.length + status.conditions.length > 0);
  return (
    <main id="main" tabIndex={-1} aria-label={`${sentence(kind)} ${name}`}>
      <p class="path">
        <a href="#">Overview</a> <span class="soft">/ {kind}</span>
      </p>
      <h2 class="title">
        <bdi>{name}</bdi>
      </h2>
      {kind === "report" && <Report id={name} nowMs={nowMs} />}
      {kind !== "report" && !isKnown && <p class="card soft">No {kind} has this name now.</p>}
      {kind !== "report" && isKnown && (
        <>
          {(away !== null || status.conditions.length > 0) && <Attention status={status} away={away} nowMs={nowMs} />}
          {kind === "sink" && <Sinks status={status} />}
          {view.reads.length > 0 && <Reads status={status} reads={view.reads} nowMs={nowMs} />}
          {kind === "sink" && <Charts view={view} nowMs={nowMs} />}
          <Tables status={status} tables={view.tables} isAlone={kind === "table"} nowMs={nowMs} />
          {view.letterGroups.length > 0 && (
            <Letters
              groups={view.letterGroups}
              letters={view.deadLetters}
              of={kind === "sink" ? { sink: name } : null}
              nowMs={nowMs}
            />
          )}
          {actions.length > 0 && <Actions entries={actions} nowMs={nowMs} />}
        </>
      )}
    </main>
  );
}

function Overview({ live, hint }: { readonly live: Live; readonly hint: string | null }) {
  const { status, view, reports, actions, nowMs, away } = live;
  if (status === null || view === null) return <Silent away={away} />;
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
      <Letters groups={view.letterGroups} letters={view.deadLetters} of={{}} nowMs={nowMs} />
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
