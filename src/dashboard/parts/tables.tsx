import { useState } from "preact/hooks";
import { TABLE_PAUSED } from "../../core/contracts/state-store.ts";
import type { StatusDocument } from "../../core/contracts/status.ts";
import type { TableView } from "../../ops/dashboard/view.ts";
import { many } from "../format.ts";
import { List, Section } from "./section.tsx";
import { FOLLOWED, TableRow, type TableState } from "./table-row.tsx";

interface TablesProps {
  readonly status: StatusDocument;
  readonly tables: readonly TableView[];
  /** True: it is what the page is about. */
  readonly isAlone?: boolean;
  readonly nowMs: number;
}

/** A page of thousands of rows would be slow: the search finds the others. */
const SHOWN_MAX = 100;

export function Tables({ status, tables, isAlone = false, nowMs }: TablesProps) {
  const [search, setSearch] = useState("");
  const wanted = search.trim().toLowerCase();
  const states = statesOf(status);
  const listed = new Set(tables.map(({ table }) => table));
  const others = status.tables.suspended.filter(({ sink, table }) => sink === null && !listed.has(table));
  const all = [...others.map(({ table }) => unknown(table)), ...tables];
  const found = all
    .filter(({ table }) => table.toLowerCase().includes(wanted))
    .toSorted((a, b) => Number(states.has(b.table)) - Number(states.has(a.table)) || a.table.localeCompare(b.table));
  const { refused } = status.tables;
  return (
    <Section
      id="tables"
      title={isAlone ? "In the sinks" : "Tables"}
      beside={
        isAlone ? undefined : (
          <input
            type="search"
            placeholder="Find a table"
            aria-label="Find a table"
            value={search}
            onInput={({ currentTarget }) => setSearch(currentTarget.value)}
          />
        )
      }
    >
      <List
        of="tables"
        texts={["table", "state"]}
        figures={["shape", "columns", "rows", "last change", "compared", ""]}
        rows={found.slice(0, SHOWN_MAX).map((table) => (
          <TableRow
            key={table.table}
            table={table}
            state={states.get(table.table) ?? FOLLOWED}
            isShown={isAlone}
            nowMs={nowMs}
          />
        ))}
      >
        {tables.length > 0 && (
          <p class="soft">
            Rows: ≈ estimated by the source's statistics, = counted by the last comparison. A table opens to its sinks.
          </p>
        )}
        {found.length === 0 && (
          <p class="soft">{wanted === "" ? "No table is captured yet." : "No table has this name."}</p>
        )}
        {found.length > SHOWN_MAX && (
          <p class="soft">{many(found.length - SHOWN_MAX, "more table")}: the search finds them.</p>
        )}
      </List>
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
    </Section>
  );
}

/** A suspended table that is not among the captured ones. */
function unknown(table: string): TableView {
  return { table, version: 0, columns: 0, rowsEstimated: null, changedAt: null, sinks: [] };
}

function statesOf({ tables }: StatusDocument): ReadonlyMap<string, TableState> {
  const inSinks = Array.from(
    Map.groupBy(
      tables.suspended.flatMap(({ sink, ...rest }) => (sink === null ? [] : [{ ...rest, sink }])),
      ({ table }) => table,
    ),
    ([table, found]): readonly [string, TableState] => {
      const isPaused = found.every(({ error }) => error.code === TABLE_PAUSED);
      const bySink = new Map(
        found.map(({ sink, error }) => [sink, error.code === TABLE_PAUSED ? "paused" : "suspended"] as const),
      );
      const text = `${isPaused ? "paused" : "suspended"} in ${[...bySink.keys()].join(", ")}`;
      return [table, { text, look: isPaused ? "warning" : "bad", bySink }];
    },
  );
  const whole = (text: string): TableState => ({ text, look: "bad", bySink: new Map() });
  return new Map([
    ...tables.unreadable.map(({ table }) => [table, whole("can't be read")] as const),
    ...inSinks,
    ...tables.suspended.flatMap(({ table, sink }) => (sink === null ? [[table, whole("suspended")] as const] : [])),
  ]);
}
