import type { CopyStatus, ReadProgress, SnapshotStatus, StatusDocument } from "../../core/contracts/status.ts";
import { Act } from "../act.tsx";
import { ago, count, duration, many } from "../format.ts";
import { ErrorNumber } from "./error-number.tsx";
import { Section } from "./section.tsx";

interface ReadsProps {
  readonly status: StatusDocument;
  readonly reads: readonly SnapshotStatus[];
  readonly nowMs: number;
}

/** Rows that are read beside the stream, and the first copy. */
export function Reads({ status, reads, nowMs }: ReadsProps) {
  const { unfinishedSnapshots: snapshots, source } = status;
  const copy = runningCopy(source);
  return (
    <Section id="reads" title="Reads beside the stream">
      <div class="card">
        {copy !== null && <Copy copy={copy} nowMs={nowMs} />}
        {reads.map((snapshot) => (
          <Read key={snapshot.id} snapshot={snapshot} nowMs={nowMs} />
        ))}
        {copy === null && reads.length === 0 && (
          <p class="soft">{snapshots === 0 ? "No table is being read." : `${many(snapshots, "read")} to do.`}</p>
        )}
      </div>
    </Section>
  );
}

/** The first copy, while it runs. */
export function runningCopy({ copy }: StatusDocument["source"]): CopyStatus | null {
  return copy !== null && copy.tablesDone < copy.tableCount ? copy : null;
}

function Copy({ copy, nowMs }: { readonly copy: CopyStatus; readonly nowMs: number }) {
  const { tableCount, tablesDone, rowsRead } = copy;
  return (
    <div class="read">
      <div class="heading">
        <b>First copy</b>
        <span>{endText(copy, nowMs)}</span>
      </div>
      <Bar of="First copy" share={copy.share ?? tablesDone / tableCount} />
      <p class="soft">
        {tablesDone} of {many(tableCount, "table")}, {rowsText(rowsRead, copy)}
      </p>
    </div>
  );
}

function Read({ snapshot, nowMs }: { readonly snapshot: SnapshotStatus; readonly nowMs: number }) {
  const { id, tableId, sink, state, rowsDone, startedAt, reason, error, needed } = snapshot;
  return (
    <div class="read">
      <div class="heading">
        <b>
          <bdi>{tableId}</bdi> → <bdi>{sink}</bdi>
        </b>
        <span>{endText(snapshot, nowMs)}</span>
      </div>
      <Bar of={`Read of ${tableId} for ${sink}`} share={state === "waiting" ? 0 : snapshot.share} />
      <p class="soft">
        {state}, {rowsText(rowsDone, snapshot)}, {startedAt === null ? "not begun" : `begun ${ago(startedAt, nowMs)}`}:{" "}
        {reason}
      </p>
      {error !== null && (
        <p class="bad-text">
          <ErrorNumber code={error.code} /> {error.message}
        </p>
      )}
      {!needed && (
        <Act
          label="Cancel"
          of={`the read of ${tableId} for ${sink}`}
          confirm={`Stop reading ${tableId} for ${sink}? Rows that were read stay.`}
          method="DELETE"
          path={`/api/v1/snapshots/${id}`}
          done={`The read of ${tableId} was cancelled.`}
        />
      )}
    </div>
  );
}

/** Without a share it moves, and says nothing of how far it is. */
function Bar({ of, share }: { readonly of: string; readonly share: number | null }) {
  return share === null ? <progress aria-label={of} /> : <progress max={1} value={share} aria-label={of} />;
}

function rowsText(rowsDone: number, { rowsEstimated, share }: ReadProgress): string {
  if (rowsEstimated === null) return many(rowsDone, "row");
  const percent = share === null ? "" : ` (${Math.floor(share * 100)}%)`;
  return `${count(rowsDone)} of about ${many(rowsEstimated, "row")}${percent}`;
}

function endText({ secondsLeft }: ReadProgress, nowMs: number): string {
  if (secondsLeft === null) return "";
  const end = new Date(nowMs + secondsLeft * 1000).toLocaleTimeString("en-GB");
  return `about ${duration(secondsLeft)} left, ends ${end}`;
}
