import { useState } from "preact/hooks";
import { type StatusDocument, TABLE_PAUSED } from "../../core/contracts/status.ts";
import type { ProofView, TableView } from "../../ops/dashboard/view.ts";
import { Act } from "../act.tsx";
import { ago, count, many } from "../format.ts";

interface TablesProps {
  readonly status: StatusDocument;
  readonly tables: readonly TableView[];
  readonly nowMs: number;
}

/** A page of thousands of rows would be slow: the search finds the others. */
const SHOWN_MAX = 100;

export function Tables({ status, tables, nowMs }: TablesProps) {
  const [search, setSearch] = useState("");
  const wanted = search.trim().toLowerCase();
  const states = statesOf(status);
  const aside = status.tables.aside.map(({ table }) => table).filter((id) => !tables.some(({ table }) => table === id));
  const all = [...aside.map(unknown), ...tables];
  const found = all
    .filter(({ table }) => table.toLowerCase().includes(wanted))
    .toSorted((a, b) => Number(states.has(b.table)) - Number(states.has(a.table)) || a.table.localeCompare(b.table));
  const { refused } = status.tables;
  return (
    <section id="tables" aria-labelledby="tables-title">
      <div class="heading">
        <h2 id="tables-title">Tables</h2>
        <input
          type="search"
          placeholder="Find a table"
          aria-label="Find a table"
          value={search}
          onInput={({ currentTarget }) => setSearch(currentTarget.value)}
        />
      </div>
      <div class="card wide" tabIndex={0} role="group" aria-label="List of tables">
        <table>
          <thead>
            <tr>
              <th scope="col" class="text">
                table
              </th>
              <th scope="col" class="text">
                state
              </th>
              <th scope="col">shape</th>
              <th scope="col">columns</th>
              <th scope="col">rows since start</th>
              <th scope="col">last change</th>
              <th scope="col">compared</th>
              <th scope="col">
                <span class="hidden">actions</span>
              </th>
            </tr>
          </thead>
          <tbody>
            {found.slice(0, SHOWN_MAX).map((table) => (
              <Row key={table.table} table={table} state={states.get(table.table) ?? null} nowMs={nowMs} />
            ))}
          </tbody>
        </table>
        {found.length === 0 && (
          <p class="soft">{wanted === "" ? "No table is captured yet." : "No table has this name."}</p>
        )}
        {found.length > SHOWN_MAX && (
          <p class="soft">{many(found.length - SHOWN_MAX, "more table")}: the search finds them.</p>
        )}
      </div>
      {refused.length > 0 && (
        <details class="card">
          <summary>{many(refused.length, "table is", "tables are")} left out</summary>
          <ul>
            {refused.map(({ table, reason, fix }) => (
              <li key={table}>
                <bdi>{table}</bdi>: {reason}
                <br />
                <code>{fix}</code>
              </li>
            ))}
          </ul>
        </details>
      )}
    </section>
  );
}

interface RowProps {
  readonly table: TableView;
  readonly state: string | null;
  readonly nowMs: number;
}

function Row({ table: { table, version, columns, rows, changedAt, proofs }, state, nowMs }: RowProps) {
  return (
    <tr>
      <th scope="row" class="text">
        <bdi>{table}</bdi>
      </th>
      <td class="text">
        <span class={`pill ${lookOf(state)}`}>{state ?? "followed"}</span>
      </td>
      <td>{version === 0 ? "–" : `v${version}`}</td>
      <td>{columns === 0 ? "–" : columns}</td>
      <td>{count(rows)}</td>
      <td>{changedAt === null ? "–" : ago(changedAt, nowMs)}</td>
      <td>{proofText(proofs, nowMs)}</td>
      <td>
        {isPaused(state) ? (
          <Act
            label="Resume"
            of={`table ${table}`}
            look="main"
            order={{
              method: "POST",
              path: "/api/v1/resume",
              body: { tables: [table] },
              done: `Table ${table} goes on.`,
            }}
          />
        ) : (
          <Act
            label="Pause"
            of={`table ${table}`}
            confirm={`Pause table ${table} in every sink? Its changes are skipped, and its rows are read again when it goes on.`}
            order={{
              method: "POST",
              path: "/api/v1/pause",
              body: { tables: [table] },
              done: `Table ${table} is paused.`,
            }}
          />
        )}{" "}
        <Act
          label="Resync"
          of={`table ${table}`}
          confirm={`Read table ${table} again for every sink? A suspended table is followed again.`}
          order={{
            method: "POST",
            path: "/api/v1/snapshots",
            body: { tables: [table] },
            done: `Table ${table} is read again.`,
          }}
        />
      </td>
    </tr>
  );
}

const PAUSED = "paused in ";

function isPaused(state: string | null): boolean {
  return state?.startsWith(PAUSED) === true;
}

function lookOf(state: string | null): "good" | "warning" | "bad" {
  if (state === null) return "good";
  return isPaused(state) ? "warning" : "bad";
}

function proofText(proofs: readonly ProofView[], nowMs: number): string {
  const differing = proofs.reduce((sum, { rows }) => sum + rows, 0);
  if (differing > 0) return many(differing, "row differs", "rows differ");
  const oldest = proofs.map(({ at }) => at).toSorted()[0];
  return oldest === undefined ? "–" : `equal, ${ago(oldest, nowMs)}`;
}

/** A suspended table that is not among the captured ones. */
function unknown(table: string): TableView {
  return { table, version: 0, columns: 0, changedAt: null, rows: 0, sinks: [], proofs: [] };
}

function statesOf({ tables }: StatusDocument): ReadonlyMap<string, string> {
  return new Map([
    ...tables.unreadable.map(({ table }) => [table, "can't be read"] as const),
    ...Array.from(
      Map.groupBy(tables.suspended, ({ table }) => table),
      ([table, found]) => {
        const how = found.every(({ error }) => error.code === TABLE_PAUSED) ? PAUSED : "suspended in ";
        return [table, how + found.map(({ sink }) => sink).join(", ")] as const;
      },
    ),
    ...tables.aside.map(({ table }) => [table, "suspended"] as const),
  ]);
}
