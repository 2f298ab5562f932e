import { useState } from "preact/hooks";
import type { CountView, ProofView, TableSinkView, TableView } from "../../ops/dashboard/view.ts";
import { pageOf } from "../focus.ts";
import { ago, count, many, sentence } from "../format.ts";
import { Controls } from "./controls.tsx";

type SinkState = "paused" | "suspended";

export interface TableState {
  readonly text: string;
  readonly look: "good" | "warning" | "bad";
  /** The sinks that skip its changes. */
  readonly bySink: ReadonlyMap<string, SinkState>;
}

export const FOLLOWED: TableState = { text: "followed", look: "good", bySink: new Map() };

interface RowProps {
  readonly table: TableView;
  readonly state: TableState;
  /** From the beginning. */
  readonly isShown: boolean;
  readonly nowMs: number;
}

/** A table; when it is open, each of its sinks. */
export function TableRow({ table: view, state, isShown, nowMs }: RowProps) {
  const { table, version, columns, rowsEstimated, changedAt, sinks } = view;
  const [isOpen, setOpen] = useState(isShown);
  const counts = sinks.flatMap(({ counted }) => counted ?? []);
  return (
    <>
      <tr>
        <th scope="row" class="text">
          {sinks.length > 0 && (
            <button
              type="button"
              class="open"
              aria-label={table}
              aria-expanded={isOpen}
              onClick={() => setOpen(!isOpen)}
            />
          )}
          <a href={pageOf("table", table)}>
            <bdi>{table}</bdi>
          </a>
        </th>
        <td class="text">
          <span class={`pill ${state.look}`}>{state.text}</span>
        </td>
        <td>{version === 0 ? "–" : `v${version}`}</td>
        <td>{columns === 0 ? "–" : columns}</td>
        <td>{rowsText(rowsEstimated, counts, nowMs)}</td>
        <td>{changedAt === null ? "–" : ago(changedAt, nowMs)}</td>
        <td>{proofText(sinks, nowMs)}</td>
        <td>
          <Actions table={table} sink={null} isPaused={isAllPaused(state)} />
        </td>
      </tr>
      {isOpen &&
        sinks.map((sink) => (
          <SinkRow
            key={sink.sink}
            table={table}
            sink={sink}
            state={state.bySink.get(sink.sink) ?? null}
            nowMs={nowMs}
          />
        ))}
    </>
  );
}

interface SinkRowProps {
  readonly table: string;
  readonly sink: TableSinkView;
  readonly state: SinkState | null;
  readonly nowMs: number;
}

function SinkRow({ table, sink: own, state, nowMs }: SinkRowProps) {
  const { sink, rows, changedAt, counted } = own;
  return (
    <tr class="inner">
      <th scope="row" class="text">
        →{" "}
        <a href={pageOf("sink", sink)}>
          <bdi>{sink}</bdi>
        </a>
      </th>
      <td class="text">
        <span class={`pill ${state === null ? "good" : state === "paused" ? "warning" : "bad"}`}>
          {state ?? "followed"}
        </span>
      </td>
      <td colSpan={2} class="soft">
        {many(rows, "row")} written
      </td>
      <td>{counted === null ? "–" : countedText(counted, nowMs)}</td>
      <td>{changedAt === null ? "–" : ago(changedAt, nowMs)}</td>
      <td>{proofText([own], nowMs)}</td>
      <td>
        <Actions table={table} sink={sink} isPaused={state === "paused"} />
      </td>
    </tr>
  );
}

interface ActionsProps {
  readonly table: string;
  /** Null: every sink. */
  readonly sink: string | null;
  readonly isPaused: boolean;
}

function Actions({ table, sink, isPaused }: ActionsProps) {
  const of = sink === null ? `table ${table}` : `table ${table} in sink ${sink}`;
  const where = sink === null ? "every sink" : `sink ${sink}`;
  return (
    <span class="buttons">
      <Controls
        of={of}
        isPaused={isPaused}
        pause={{
          confirm: `Pause table ${table} in ${where}? Its changes are skipped, and its rows are read again when it goes on.`,
          body: { ...(sink === null ? {} : { sink }), tables: [table] },
        }}
        resync={{
          confirm: `Read table ${table} again for ${where}? A suspended table is followed again.`,
          body: { tables: [table], ...(sink === null ? {} : { sinks: [sink] }) },
          done: `${sentence(of)} is read again.`,
        }}
      />
    </span>
  );
}

function isAllPaused({ look, bySink }: TableState): boolean {
  return look === "warning" && bySink.size > 0;
}

/** A count that is older says less of the present than an estimate does. */
const COUNT_MS_MAX = 60_000;

/** An older count stands beside the source's of the same moment, as rows came and went since. */
function countedText({ at, sinkRows, sourceRows }: CountView, nowMs: number) {
  if (nowMs - Date.parse(at) < COUNT_MS_MAX) return `= ${count(sinkRows)}`;
  return <span class="soft">{`${count(sinkRows)} of ${count(sourceRows)}, ${ago(at, nowMs)}`}</span>;
}

function rowsText(estimated: number | null, counts: readonly CountView[], nowMs: number) {
  const newest = counts.toSorted((a, b) => b.at.localeCompare(a.at))[0];
  const isFresh = newest !== undefined && nowMs - Date.parse(newest.at) < COUNT_MS_MAX;
  if (newest !== undefined && (isFresh || estimated === null))
    return <span title={`counted at the source ${ago(newest.at, nowMs)}`}>= {count(newest.sourceRows)}</span>;
  return estimated === null ? "–" : <span title="estimated by the source's statistics">≈ {count(estimated)}</span>;
}

/** Of a table in these sinks. */
function proofText(sinks: readonly { readonly proof: ProofView | null }[], nowMs: number): string {
  const known = sinks.flatMap(({ proof }) => proof ?? []);
  const differing = known.reduce((sum, proof) => sum + proof.differing, 0);
  if (differing > 0) return many(differing, "row differs", "rows differ");
  if (known.length === 0) return "–";
  const oldest = oldestProof(known);
  return oldest === null ? "not proven" : `equal, ${ago(oldest, nowMs)}`;
}

/** When every row of all these was last proven equal; null: some never was. */
export function oldestProof(proofs: readonly ProofView[]): string | null {
  const proven = proofs.flatMap(({ provenAt }) => provenAt ?? []).toSorted();
  return proven.length < proofs.length ? null : (proven[0] ?? null);
}
