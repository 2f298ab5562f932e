import type { SnapshotStatus, StatusDocument } from "../../core/contracts/status.ts";
import type { TableView } from "../../ops/dashboard/view.ts";
import { Act } from "../act.tsx";
import { ago, count, duration, many, rate } from "../format.ts";

interface ReadsProps {
  readonly status: StatusDocument;
  readonly reads: readonly SnapshotStatus[];
  readonly tables: readonly TableView[];
  readonly nowMs: number;
}

/** Rows that are read beside the stream, and the first copy. */
export function Reads({ status, reads, tables, nowMs }: ReadsProps) {
  const { refills, source, daemon } = status;
  const copy = source.copy !== null && source.copy.tablesDone < source.copy.tableCount ? source.copy : null;
  return (
    <section id="reads" aria-labelledby="reads-title">
      <h2 id="reads-title">Reads beside the stream</h2>
      <div class="card">
        {copy !== null && <Copy copy={copy} since={daemon?.startedAt ?? null} nowMs={nowMs} />}
        {reads.map((snapshot) => (
          <Read key={snapshot.id} snapshot={snapshot} rowsMax={rowsOf(tables, snapshot.tableId)} nowMs={nowMs} />
        ))}
        {copy === null && reads.length === 0 && (
          <p class="soft">{refills === 0 ? "No table is being read." : `${many(refills, "read")} to do.`}</p>
        )}
      </div>
    </section>
  );
}

interface CopyProps {
  readonly copy: NonNullable<StatusDocument["source"]["copy"]>;
  readonly since: string | null;
  readonly nowMs: number;
}

function Copy({ copy: { tableCount, tablesDone, rowsRead }, since, nowMs }: CopyProps) {
  const passed = since === null ? 0 : (nowMs - Date.parse(since)) / 1000;
  const left = tablesDone === 0 ? null : (passed / tablesDone) * (tableCount - tablesDone);
  return (
    <div class="read">
      <div class="heading">
        <b>First copy</b>
        <span>{left === null ? "" : `about ${duration(left)} left`}</span>
      </div>
      <progress max={tableCount} value={tablesDone} aria-label="First copy" />
      <p class="soft">
        {tablesDone} of {many(tableCount, "table")}, {count(rowsRead)} rows, {rate(rowsRead / Math.max(1, passed))}
      </p>
    </div>
  );
}

interface ReadProps {
  readonly snapshot: SnapshotStatus;
  readonly rowsMax: number | null;
  readonly nowMs: number;
}

function Read({ snapshot, rowsMax, nowMs }: ReadProps) {
  const { id, tableId, sink, state, rowsDone, startedAt, reason, error, needed } = snapshot;
  const passed = startedAt === null ? 0 : (nowMs - Date.parse(startedAt)) / 1000;
  const speed = passed > 0 ? rowsDone / passed : 0;
  const left = rowsMax !== null && speed > 0 && rowsMax > rowsDone ? (rowsMax - rowsDone) / speed : null;
  return (
    <div class="read">
      <div class="heading">
        <b>
          <bdi>{tableId}</bdi> → <bdi>{sink}</bdi>
        </b>
        <span>
          {left === null
            ? ""
            : `about ${duration(left)} left, ends ${new Date(nowMs + left * 1000).toLocaleTimeString("en-GB")}`}
        </span>
      </div>
      {rowsMax === null ? (
        <progress aria-label={`Read of ${tableId} for ${sink}`} />
      ) : (
        <progress max={rowsMax} value={Math.min(rowsDone, rowsMax)} aria-label={`Read of ${tableId} for ${sink}`} />
      )}
      <p class="soft">
        {state}, {count(rowsDone)} {rowsMax === null ? "rows" : `of about ${count(rowsMax)} rows`}, {rate(speed)}, since{" "}
        {startedAt === null ? "not begun" : ago(startedAt, nowMs)}: {reason}
      </p>
      {error !== null && (
        <p class="bad-text">
          {error.code} {error.message}
        </p>
      )}
      {!needed && (
        <Act
          label="Cancel"
          of={`the read of ${tableId} for ${sink}`}
          confirm={`Stop reading ${tableId} for ${sink}? Rows that were read stay.`}
          order={{ method: "DELETE", path: `/api/v1/snapshots/${id}`, done: `The read of ${tableId} was cancelled.` }}
        />
      )}
    </div>
  );
}

/** What the newest comparison counted; null: the table was not compared yet. */
function rowsOf(tables: readonly TableView[], id: string): number | null {
  const proofs = tables.find(({ table }) => table === id)?.proofs ?? [];
  return proofs.length === 0 ? null : Math.max(1, ...proofs.map(({ sourceRows }) => sourceRows));
}
