import type { ComponentProps } from "preact";
import type { Condition, Verdict } from "../../core/conditions/condition.ts";
import type { StatusDocument } from "../../core/contracts/status.ts";
import { Act } from "../act.tsx";
import { pageOf } from "../focus.ts";
import { ago, clock, sentence } from "../format.ts";
import type { Away } from "../live.ts";
import { ErrorNumber } from "./error-number.tsx";

/** The code of a table whose change waits. */
const WAITS_FOR_APPROVAL = "MR1303";

interface Props {
  readonly status: StatusDocument;
  /** Why the daemon is not heard, and since when; null: it is. */
  readonly away: Away | null;
  readonly nowMs: number;
}

export const VERDICT_LOOKS: Readonly<Record<Verdict["kind"], string>> = {
  act: "bad",
  unready: "warning",
  watch: "warning",
  well: "good",
};

/** The daemon's own verdict; nothing is well of which nothing is known. */
export function Attention({ status: { verdict, conditions }, away, nowMs }: Props) {
  return (
    <section class={`attention ${away === null ? VERDICT_LOOKS[verdict.kind] : "bad"}`} aria-labelledby="attention">
      <h2 id="attention">{away === null ? sentence(verdict.headline) : "The daemon does not answer"}</h2>
      {away !== null && (
        <p role="alert">
          {away.why} since {clock(away.since, nowMs)} ({ago(away.since, nowMs)}). Nobody knows whether rows flow. The
          page shows what was known then, and asks again.
        </p>
      )}
      {away === null && conditions.length === 0 && (
        <p>Every sink follows the source, and nothing waits for a person.</p>
      )}
      {conditions.length > 0 && (
        <ul>
          {conditions.map((condition) => (
            <Item key={condition.id} condition={condition} nowMs={nowMs} />
          ))}
        </ul>
      )}
    </section>
  );
}

function Item({ condition, nowMs }: { readonly condition: Condition; readonly nowMs: number }) {
  const { level, what, code, message, since, lastTried, meanwhile, fix } = condition;
  const remedy = remedyOf(condition);
  const more = [
    ...(code === null ? [] : [message ?? ""]),
    ...(since === null ? [] : [`since ${clock(since, nowMs)} (${ago(since, nowMs)})`]),
    ...(lastTried === null ? [] : [`last tried ${ago(lastTried, nowMs)}`]),
    ...(meanwhile === null ? [] : [meanwhile]),
  ].join("; ");
  return (
    <li>
      <span class={`pill ${level === "act" ? "bad" : "warning"}`}>{level}</span>
      <div>
        <a href={placeOf(condition)}>
          <bdi>{sentence(what)}</bdi>
        </a>
        {(code !== null || more !== "") && (
          <p class="soft">
            {code !== null && <ErrorNumber code={code} />} {more}
          </p>
        )}
        {fix !== null && <p>→ {fix}</p>}
        {remedy !== null && (
          <p class="buttons">
            <Act {...remedy} look="main" />
          </p>
        )}
      </div>
    </li>
  );
}

/** What does what the fix says, where one command does; null: a person has to do more. */
function remedyOf({ kind, level, code, sink, table }: Condition): Omit<ComponentProps<typeof Act>, "look"> | null {
  if (table !== null && code === WAITS_FOR_APPROVAL)
    return {
      label: "Approve",
      of: `table ${table}`,
      confirm: `Let table ${table} go on? The sinks follow its present shape, and its rows are read again.`,
      path: "/api/v1/snapshots",
      body: { tables: [table] },
      done: `Table ${table} goes on.`,
    };
  if (sink !== null && kind === "sink.dead-letters")
    return {
      label: "Replay all",
      of: `dead letters of sink ${sink}`,
      path: "/api/v1/dlq/replay",
      body: { sink },
      done: `The dead letters of sink ${sink} were read again.`,
    };
  if (sink !== null && kind === "sink.paused")
    return {
      label: "Resume",
      of: `sink ${sink}, which waits`,
      path: "/api/v1/resume",
      body: { sink },
      done: `Sink ${sink} goes on.`,
    };
  if ((kind === "comparison.drift" && level === "act") || kind === "proof.drift") {
    const isOne = sink !== null && table !== null;
    return {
      label: "Repair",
      of: isOne ? `table ${table} in sink ${sink}` : "what differed",
      confirm: `Compare every row of ${isOne ? `table ${table} in sink ${sink}` : "every sink"} with the source, and read again what differs?`,
      path: "/api/v1/repair",
      body: isOne ? { sinks: [sink], tables: [table] } : {},
      done: "The comparison has begun. Its report comes under Proof.",
    };
  }
  return null;
}

/** What shows more. */
function placeOf({ kind, sink, table }: Condition): string {
  if (table !== null) return pageOf("table", table);
  if (sink !== null) return pageOf("sink", sink);
  if (kind.startsWith("sink.")) return "#sinks";
  if (kind.startsWith("table.")) return "#tables";
  return kind.startsWith("comparison.") ? "#proof" : "#offsets";
}
